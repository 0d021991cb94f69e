// Launchers that hold a child a node, with scripts in the place of agents.

#include <gtest/gtest.h>

#include <csignal>
#include <map>
#include <thread>

#include "base/error.h"
#include "launch/launcher/launcher_test_support.h"

namespace flagscale::launch {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Says what it was given, and does it: a number is its exit code, "wait" waits for the end of its stdin.
constexpr const char* kAgent = R"(#!/bin/sh
read -r what
echo "agent $* got $what"
echo "careful" >&2
case $what in
  wait) cat >/dev/null; echo bye; exit 7 ;;
  deaf) trap '' TERM; exec sleep 1000 ;;
  *) exit "$what" ;;
esac
)";

class Local : public testing::Test {
 protected:
  LauncherRun run(const std::vector<std::string>& inputs) {
    return LauncherRun("local", options, job_of(inputs));
  }

  TemporaryFolder folder;
  LauncherOptions options = [this] {
    LauncherOptions result;
    result.program = executable(folder, "agent", kAgent);
    return result;
  }();
};

TEST_F(Local, EveryNodeGetsItsInputAndItsEndIsReported) {
  LauncherRun job = run({"0", "3"});
  job.until_ended();
  EXPECT_EQ(job.exit_codes(), (std::map<int, int>{{0, 0}, {1, 3}}));
  EXPECT_EQ(job.out[0], "agent agent - got 0\n");
  EXPECT_EQ(job.out[1], "agent agent - got 3\n");
  EXPECT_EQ(job.err[1], "careful\n");
}

TEST_F(Local, StopEndsStdinAndWaits) {
  LauncherRun job = run({"wait", "wait"});
  EXPECT_TRUE(job.launcher->wait(milliseconds(200)).empty());
  job.launcher->stop(seconds(20));
  job.until_ended();
  EXPECT_EQ(job.exit_codes(), (std::map<int, int>{{0, 7}, {1, 7}}));
  EXPECT_EQ(job.out[0], "agent agent - got wait\nbye\n");
}

TEST_F(Local, WhoDoesNotStopIsCutOff) {
  LauncherRun job = run({"deaf"});
  while (job.out[0].empty()) job.launcher->wait(milliseconds(50));
  const auto begin = std::chrono::steady_clock::now();
  job.launcher->stop(milliseconds(200));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(20));
  job.until_ended();
  EXPECT_EQ(job.exit_codes(), (std::map<int, int>{{0, 128 + SIGKILL}}));
  EXPECT_EQ(job.ends[0].message, "rank 0: its agent was ended by signal 9");
}

TEST_F(Local, NothingIsLeftWithoutTheLauncher) {
  pid_t pid = 0;
  {
    LauncherRun job = run({"deaf"});
    while (job.out[0].empty()) job.launcher->wait(milliseconds(50));
    pid = child_of_this_process();
    ASSERT_GT(pid, 0);
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST_F(Local, AMissingProgramIsNamed) {
  options.program = folder.path + "/none";
  try {
    run({"0"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()), "there is no program '" + folder.path + "/none'");
  }
}

TEST_F(Local, AnUnknownLauncherIsRefused) {
  try {
    make_launcher("lokal", options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean 'local'?"), std::string::npos) << error.what();
  }
}

TEST_F(Local, LongLinesAndManyOfThem) {
  options.program =
      executable(folder, "loud", "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x\nseq 100000\n");
  LauncherRun job = run({"0"});
  job.until_ended();
  EXPECT_EQ(job.exit_codes(), (std::map<int, int>{{0, 0}}));
  size_t characters = 0;
  for (const char c : job.out[0]) characters += c != '\n';
  EXPECT_EQ(characters, 3000000u + 488895u);
  EXPECT_TRUE(job.out[0].ends_with("99999\n100000\n"));
}

}  // namespace
}  // namespace flagscale::launch
