// Two hosts on one machine: network namespaces, each with an sshd of its own. Needs root and iproute2;
// skipped else.

#include <gtest/gtest.h>

#include "launch/launcher/sshd_test_support.h"

namespace flagscale::launch {
namespace {

using std::chrono::seconds;

bool succeeds(const std::vector<std::string>& words) {
  const Finished finished = run_all({{words, {}, {}}}, seconds(10))[0];
  if (finished.exit_code != 0) std::printf("%s", finished.err.c_str());
  return finished.exit_code == 0;
}

// A namespace with one cable to this one: 10.B.N.1 here, 10.B.N.2 there.
class Namespace {
 public:
  explicit Namespace(int number)
      : name_("fs" + std::to_string(getpid()) + "n" + std::to_string(number)),
        near_("fs" + std::to_string(getpid() % 100000) + "v" + std::to_string(number)),
        net_("10." + std::to_string(200 + getpid() % 50) + "." + std::to_string(number) + ".") {
    works = succeeds({"ip", "netns", "add", name_}) &&
            succeeds({"ip", "link", "add", near_, "type", "veth", "peer", "name", "eth0", "netns", name_}) &&
            succeeds({"ip", "address", "add", net_ + "1/24", "dev", near_}) &&
            succeeds({"ip", "link", "set", near_, "up"}) &&
            succeeds({"ip", "-n", name_, "address", "add", net_ + "2/24", "dev", "eth0"}) &&
            succeeds({"ip", "-n", name_, "link", "set", "eth0", "up"}) &&
            succeeds({"ip", "-n", name_, "link", "set", "lo", "up"});
  }
  ~Namespace() {
    run_all({{{"ip", "link", "del", near_}, {}, {}}}, seconds(10));
    run_all({{{"ip", "netns", "del", name_}, {}, {}}}, seconds(10));
  }

  std::string address() const { return net_ + "2"; }
  std::vector<std::string> inside() const { return {"ip", "netns", "exec", name_}; }
  void pull_the_cable() const { succeeds({"ip", "-n", name_, "link", "set", "eth0", "down"}); }

  bool works = false;

 private:
  std::string name_, near_, net_;
};

class TwoHosts : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "network namespaces need root";
    if (sshd_program().empty()) GTEST_SKIP() << "no sshd here: apt-get install openssh-server";
    if (!a.works || !b.works) GTEST_SKIP() << "no network namespaces here";
    for (const Namespace* host : {&a, &b})
      sshds.push_back(
          std::make_unique<TestSshd>(host->address(), host->inside(), sshds.empty() ? 0 : sshds[0]->port));
    // One client for both: each sshd has its keys.
    std::string config;
    for (size_t i = 0; i < 2; ++i) {
      std::ifstream file(sshds[i]->config);
      std::string one{std::istreambuf_iterator<char>(file), {}};
      config += one.replace(one.find('*'), 1, (i == 0 ? a : b).address());
    }
    options.ssh_arguments = {"-F", folder.put("config", config)};
    options.program = executable(folder, "agent", kScriptedAgent);
    job = job_on({a.address(), b.address()});
    job.ssh_port = sshds[0]->port;
  }

  Namespace a{1}, b{2};
  TemporaryFolder folder;
  std::vector<std::unique_ptr<TestSshd>> sshds;
  LauncherOptions options;
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
  b.pull_the_cable();
  const auto begin = std::chrono::steady_clock::now();
  second.read_until();
  const auto time = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(time, seconds(4));
  std::printf("lost after %.2f s\n", std::chrono::duration<double>(time).count());
  EXPECT_EQ(second.exit_code(), 255);
  EXPECT_NE(second.explanation().find("host " + b.address() + ": it was lost"), std::string::npos)
      << second.explanation();
  first.end_stdin();  // the other one is as well as before
  EXPECT_EQ(first.read_until(), "agent agent - got wait\nbye\n");
  EXPECT_EQ(first.exit_code(), 7);
}

TEST_F(TwoHosts, AHostThatDoesNotAnswerIsNamed) {
  options.connect_time = seconds(1);
  b.pull_the_cable();
  const std::string line = refusal(*make_launcher("ssh", options), job);
  EXPECT_TRUE(line.starts_with("host " + b.address() + ": ")) << line;
  EXPECT_TRUE(line.find("did not answer on port") != std::string::npos ||
              line.find("no way to it") != std::string::npos)
      << line;
  EXPECT_EQ(line.find('\n'), std::string::npos) << line;
}

}  // namespace
}  // namespace flagscale::launch
