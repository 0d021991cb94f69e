// Nodes in containers: a docker that runs its words itself, here and behind a real sshd.

#include "launch/launcher/container.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "launch/launcher/own_names.h"
#include "launch/launcher/sshd_test_support.h"

namespace flagscale::launch {
namespace {

constexpr const char* kDocker = R"(#!/bin/sh
[ "$1 $2" = "exec -i" ] || { echo "unknown: $*" >&2; exit 9; }
case $3 in
  box) shift 3; IN_BOX=yes exec "$@" ;;
  asleep) echo "Error response from daemon: container 3f2a9c is not running" >&2; exit 1 ;;
  mine) echo "permission denied while trying to connect to the Docker daemon socket" >&2; exit 1 ;;
  *) echo "Error response from daemon: No such container: $3" >&2; exit 1 ;;
esac
)";

class InContainer : public testing::Test {
 protected:
  void SetUp() override {
    executable(folder, "bin/docker", kDocker);
    options.program = executable(folder, "my agent's",
                                 "#!/bin/sh\nread -r code\necho \"agent $* in box: $IN_BOX\"\nexit $code\n");
    options.container = "box";
    options.root = folder.path;  // no container
    path_ = getenv("PATH");
    setenv("PATH", (folder.path + "/bin:" + path_).c_str(), 1);
  }
  void TearDown() override { setenv("PATH", path_.c_str(), 1); }

  static bool leave_docker_out() {
    setenv("PATH", "/usr/bin:/bin", 1);
    return !std::filesystem::exists("/usr/bin/docker") && !std::filesystem::exists("/bin/docker");
  }

  std::string said_by(Launcher& launcher) const {
    launcher.prepare(job);
    OpenNode node(launcher, job.nodes[0], "5");
    const std::string text = node.read_until();
    EXPECT_EQ(node.exit_code(), 5);
    return text;
  }
  std::string refused_for(const std::string& container) {
    options.container = container;
    return refusal(*make_launcher("ssh", options), job);
  }

  TemporaryFolder folder;
  LauncherOptions options;
  Job job = job_on({"localhost"});
  std::string path_;
};

TEST_F(InContainer, ThisMachinesNodeEnters) {
  EXPECT_EQ(said_by(*make_launcher("ssh", options)), "agent agent - in box: yes\n");
}

TEST_F(InContainer, WhoIsInsideNeedNotEnter) {
  folder.put(".dockerenv", "");
  EXPECT_TRUE(Container("box", folder.path).entered_from("localhost"));  // there is a docker
  if (!leave_docker_out()) GTEST_SKIP() << "a docker is here";
  EXPECT_EQ(said_by(*make_launcher("ssh", options)), "agent agent - in box: \n");
  const Container container("box", folder.path);
  EXPECT_FALSE(container.entered_from("localhost"));
  EXPECT_FALSE(container.entered_from("127.0.0.1"));
  EXPECT_FALSE(container.entered_from(*own_names().begin()));
  EXPECT_TRUE(container.entered_from("another-host"));
  EXPECT_FALSE(Container("", folder.path).entered_from("another-host"));
}

TEST_F(InContainer, WhatIsWrongIsALine) {
  EXPECT_EQ(refused_for("none"),
            "host localhost: there is no container none (experiment.runner.docker): docker ps shows those "
            "that run");
  EXPECT_EQ(
      refused_for("asleep"),
      "host localhost: its container asleep (experiment.runner.docker) does not run: docker start brings "
      "it up");
  EXPECT_EQ(refused_for("mine"),
            "host localhost: this user may not use docker there: put it into the group docker");
  options.program = folder.path + "/none";
  EXPECT_EQ(refused_for("box"),
            "host localhost: container box (experiment.runner.docker) has no " + folder.path +
                "/none: experiment.runner.no_shared_fs: true brings it, or put it into the image");
  if (!leave_docker_out()) GTEST_SKIP() << "a docker is here: that without one a line says so was not tried";
  EXPECT_EQ(
      refused_for("box"),
      "host localhost: docker is not there: install it, or leave container box (experiment.runner.docker) "
      "out");
}

TEST_F(InContainer, OtherLaunchersDoNotEnter) {
  try {
    make_launcher("openmpi", options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("by experiment.runner.type=ssh alone, not openmpi"),
              std::string::npos)
        << error.what();
  }
}

// The same behind ssh, and the program brought into the container.
TEST_F(InContainer, OfAnotherHost) {
  if (sshd_program().empty()) GTEST_SKIP() << "no sshd here: apt-get install openssh-server";
  const std::string path = folder.path + "/bin:" + path_;
  std::filesystem::create_directory(folder.path + "/cache");
  const TestSshd sshd("127.0.0.1", std::vector<std::string>{}, 0,
                      "SetEnv \"PATH=" + path + "\" \"XDG_CACHE_HOME=" + folder.path + "/cache\"\n");
  options.ssh_arguments = {"-F", sshd.config};
  job = job_on({"127.0.0.1"});
  job.ssh_port = sshd.port;
  EXPECT_EQ(said_by(*make_launcher("ssh", options)), "agent agent - in box: yes\n");
  EXPECT_EQ(refused_for("none"),
            "host 127.0.0.1: there is no container none (experiment.runner.docker): docker ps shows those "
            "that run");
  executable(folder, "flagscale-9-x86_64/bin/flagscale",
             "#!/bin/sh\nread -r code\necho \"brought, in box: $IN_BOX\"\nexit $code\n");
  run_all(
      {{{"tar", "-C", folder.path, "-czf", folder.path + "/program.tar.gz", "flagscale-9-x86_64"}, {}, {}}},
      {});
  options.archive = folder.path + "/program.tar.gz";
  options.program = "/nowhere/flagscale";
  options.no_shared_fs = true;
  options.container = "box";
  EXPECT_EQ(said_by(*make_launcher("ssh", options)), "brought, in box: yes\n");
}

}  // namespace
}  // namespace flagscale::launch
