// Two hosts on one machine: network namespaces, each with an sshd of its own. Needs root and iproute2;
// skipped else.

#include <gtest/gtest.h>

#include "launch/launcher/namespace_test_support.h"

namespace flagscale::launch {
namespace {

using std::chrono::seconds;

class TwoHosts : public testing::Test {
 protected:
  void SetUp() override {
    if (!hosts.missing.empty()) GTEST_SKIP() << hosts.missing;
    options.program = executable(folder, "agent", kScriptedAgent);
    job = job_on({hosts.a.address(), hosts.b.address()});
    job.ssh_port = hosts.port;
  }

  TestHosts hosts;
  TemporaryFolder folder;
  LauncherOptions options = hosts.options;
  Job job;
};

TEST_F(TwoHosts, EachRunsItsNode) {
  const auto launcher = make_launcher("ssh", options);
  launcher->prepare(job);
  OpenNode first(*launcher, job.nodes[0], "5"), second(*launcher, job.nodes[1], "6");
  EXPECT_EQ(first.read_until(), "agent agent - got 5\n");
  EXPECT_EQ(second.read_until(), "agent agent - got 6\n");
  EXPECT_EQ(first.exit_code(), 5);
  EXPECT_EQ(second.exit_code(), 6);
}

TEST_F(TwoHosts, ALostHostIsNamedInTime) {
  options.lost_time = seconds(3);
  const auto launcher = make_launcher("ssh", options);
  launcher->prepare(job);
  OpenNode first(*launcher, job.nodes[0], "wait"), second(*launcher, job.nodes[1], "wait");
  first.read_until("got"), second.read_until("got");
  hosts.b.pull_the_cable();
  const auto begin = std::chrono::steady_clock::now();
  second.read_until();
  const auto time = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(time, seconds(4));
  std::printf("lost after %.2f s\n", std::chrono::duration<double>(time).count());
  EXPECT_EQ(second.exit_code(), 255);
  EXPECT_NE(second.explanation().find("host " + hosts.b.address() + ": it was lost"), std::string::npos)
      << second.explanation();
  first.end_stdin();  // the other one is as well as before
  EXPECT_EQ(first.read_until(), "agent agent - got wait\nbye\n");
  EXPECT_EQ(first.exit_code(), 7);
}

TEST_F(TwoHosts, AHostThatDoesNotAnswerIsNamed) {
  options.connect_time = seconds(1);
  hosts.b.pull_the_cable();
  const std::string line = refusal(*make_launcher("ssh", options), job);
  EXPECT_TRUE(line.starts_with("host " + hosts.b.address() + ": ")) << line;
  EXPECT_TRUE(line.find("did not answer on port") != std::string::npos ||
              line.find("no way to it") != std::string::npos)
      << line;
  EXPECT_EQ(line.find('\n'), std::string::npos) << line;
}

}  // namespace
}  // namespace flagscale::launch
