#include <gtest/gtest.h>

#include <csignal>

#include "base/error.h"
#include "launch/launcher/batch_system.h"
#include "launch/launcher/child.h"
#include "launch/launcher/launcher_test_support.h"

namespace flagscale::launch {
namespace {

class Local : public testing::Test {
 protected:
  void start(const std::vector<std::string>& lines) {
    job = job_on(std::vector<std::string>(lines.size(), "localhost"));
    launcher = make_launcher("local", options);
    launcher->prepare(job);
    for (size_t i = 0; i < lines.size(); ++i)
      nodes.push_back(std::make_unique<OpenNode>(*launcher, job.nodes[i], lines[i]));
  }

  TemporaryFolder folder;
  LauncherOptions options = [this] {
    LauncherOptions result;
    result.program = executable(folder, "agent", kScriptedAgent);
    return result;
  }();
  Job job;
  std::unique_ptr<Launcher> launcher;
  std::vector<std::unique_ptr<OpenNode>> nodes;
};

TEST_F(Local, EveryNodeHasALinkOfItsOwn) {
  start({"0", "3"});
  EXPECT_EQ(nodes[1]->read_until(), "agent agent - got 3\n");
  EXPECT_EQ(nodes[0]->read_until(), "agent agent - got 0\n");
  EXPECT_EQ(nodes[0]->exit_code(), 0);
  EXPECT_EQ(nodes[1]->exit_code(), 3);
  EXPECT_EQ(nodes[1]->explanation(), "rank 1: careful");
}

TEST_F(Local, TheEndOfStdinStopsOneAlone) {
  start({"wait", "wait"});
  nodes[0]->end_stdin();
  EXPECT_EQ(nodes[0]->read_until(), "agent agent - got wait\nbye\n");
  EXPECT_EQ(nodes[0]->exit_code(), 7);
  EXPECT_EQ(kill(nodes[1]->pid(), 0), 0);
}

TEST_F(Local, ASignalIsNamed) {
  start({"deaf"});
  nodes[0]->read_until("got");
  EXPECT_EQ(getsid(nodes[0]->pid()), nodes[0]->pid());  // out of a terminal's reach
  kill(nodes[0]->pid(), SIGKILL);
  EXPECT_EQ(nodes[0]->exit_code(), 128 + SIGKILL);
  EXPECT_EQ(nodes[0]->explanation(), "rank 0: its agent was ended by signal 9");
}

TEST_F(Local, AMissingProgramIsNamed) {
  options.program = folder.path + "/none";
  try {
    start({"0"});
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

TEST(Launchers, EveryOneIsThere) {
  EXPECT_EQ(Registry<LauncherKind>::instance().names(),
            std::vector<std::string>({"local", "openmpi", "slurm", "ssh"}));
  EXPECT_EQ(Registry<BatchKind>::instance().names(), std::vector<std::string>({"kubernetes", "slurm"}));
}

TEST(RunAll, GathersOutputSideBySide) {
  const auto begin = std::chrono::steady_clock::now();
  const Command slow{{"sh", "-c", "sleep 1; echo $WHO; echo no >&2; exit 4"}, {{"WHO", "me"}}, {}};
  const auto finished = run_all({slow, slow, {{"seq", "100000"}, {}, {}}}, {});
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(1900));
  EXPECT_EQ(finished[0].out, "me\n");
  EXPECT_EQ(finished[1].err, "no\n");
  EXPECT_EQ(finished[1].exit_code, 4);
  EXPECT_EQ(finished[2].out.size(), 588895u);
}

TEST(RunAll, EndsWhatTakesTooLong) {
  const auto begin = std::chrono::steady_clock::now();
  const auto finished = run_all({{{"sh", "-c", "sleep 1000; true"}, {}, {}}}, std::chrono::milliseconds(100));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  EXPECT_EQ(finished[0].exit_code, 128 + SIGKILL);
}

TEST(RunAll, DoesNotWaitForWhatAChildLeavesBehind) {
  const auto begin = std::chrono::steady_clock::now();
  const auto finished = run_all({{{"sh", "-c", "setsid sleep 5 & echo done"}, {}, {}}}, {});
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4));
  EXPECT_EQ(finished[0].out, "done\n");
}

}  // namespace
}  // namespace flagscale::launch
