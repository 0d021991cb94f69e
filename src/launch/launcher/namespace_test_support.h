#pragma once
// For tests: hosts on this machine, as network namespaces, each with an sshd of its own. Needs root and
// iproute2.

#include <string>
#include <vector>

#include "launch/launcher/sshd_test_support.h"

namespace flagscale::launch {

// A namespace with one cable to this one: 10.B.N.1 here, 10.B.N.2 there.
class TestNamespace {
 public:
  explicit TestNamespace(int number)
      : name_("fs" + std::to_string(getpid()) + "n" + std::to_string(number)),
        near_("fs" + std::to_string(getpid() % 100000) + "v" + std::to_string(number)),
        net_("10." + std::to_string(200 + getpid() % 50) + "." + std::to_string(number) + ".") {
    works = geteuid() == 0 && succeeds({"ip", "netns", "add", name_}) &&
            succeeds({"ip", "link", "add", near_, "type", "veth", "peer", "name", "eth0", "netns", name_}) &&
            succeeds({"ip", "address", "add", net_ + "1/24", "dev", near_}) &&
            succeeds({"ip", "link", "set", near_, "up"}) &&
            succeeds({"ip", "-n", name_, "address", "add", net_ + "2/24", "dev", "eth0"}) &&
            succeeds({"ip", "-n", name_, "link", "set", "eth0", "up"}) &&
            succeeds({"ip", "-n", name_, "link", "set", "lo", "up"});
  }
  ~TestNamespace() {
    if (geteuid() != 0) return;
    succeeds({"ip", "link", "del", near_});
    succeeds({"ip", "netns", "del", name_});
  }

  std::string address() const { return net_ + "2"; }
  std::vector<std::string> inside() const { return {"ip", "netns", "exec", name_}; }
  void pull_the_cable() const { succeeds({"ip", "-n", name_, "link", "set", "eth0", "down"}); }

  bool works = false;

 private:
  static bool succeeds(const std::vector<std::string>& words) {
    try {
      return run_all({{words, {}, {}}}, std::chrono::seconds(10))[0].exit_code == 0;
    } catch (const std::exception&) {  // no iproute2
      return false;
    }
  }

  std::string name_, near_, net_;
};

// Two of them, a and b, and a client's configuration for both.
class TestHosts {
 public:
  TestHosts() {
    if (geteuid() != 0)
      missing = "network namespaces need root";
    else if (sshd_program().empty())
      missing = "no sshd here: apt-get install openssh-server";
    else if (!a.works || !b.works)
      missing = "no network namespaces here (iproute2)";
    if (!missing.empty()) return;
    std::string config;
    for (const TestNamespace* host : {&a, &b}) {
      sshds_.push_back(std::make_unique<TestSshd>(host->address(), host->inside(), port));
      port = sshds_[0]->port;
      std::ifstream file(sshds_.back()->config);
      std::string one{std::istreambuf_iterator<char>(file), {}};
      config += one.replace(one.find('*'), 1, host->address());
    }
    options.ssh_arguments = {"-F", folder_.put("config", config)};
  }

  std::string missing;  // why they are not there
  TestNamespace a{1}, b{2};
  int port = 0;
  LauncherOptions options;

 private:
  TemporaryFolder folder_;
  std::vector<std::unique_ptr<TestSshd>> sshds_;
};

}  // namespace flagscale::launch
