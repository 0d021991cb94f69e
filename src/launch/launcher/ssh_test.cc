// The ssh launcher against a real sshd, started here. Where there is none (openssh-server), what needs it is
// skipped.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "base/error.h"
#include "launch/launcher/ssh_failure.h"
#include "launch/launcher/sshd_test_support.h"

namespace flagscale::launch {
namespace {

using std::chrono::seconds;

class Ssh : public testing::Test {
 protected:
  static void TearDownTestSuite() { sshd.reset(); }

  void SetUp() override {
    if (sshd_program().empty()) GTEST_SKIP() << "no sshd here: apt-get install openssh-server";
    if (!sshd) sshd = std::make_unique<TestSshd>();
    options.program = executable(folder, "my agent's", kScriptedAgent);
    options.ssh_arguments = {"-F", sshd->config};
    job.ssh_port = sshd->port;
  }

  void on(const std::vector<std::string>& hosts) {
    job = job_on(hosts);
    job.ssh_port = sshd->port;
  }

  // With the client's configuration changed.
  std::string refusal_with(const std::string& identity, const std::string& known) {
    options.ssh_arguments = {"-F", sshd->client(identity, known)};
    return refusal(*make_launcher("ssh", options), job);
  }

  std::string shown_port() const { return std::to_string(job.ssh_port); }

  TemporaryFolder folder;
  static inline std::unique_ptr<TestSshd> sshd;  // one for all
  LauncherOptions options;
  Job job = job_on({"127.0.0.1", "localhost"});
};

TEST_F(Ssh, StartsNodesThereAndHere) {
  const auto launcher = make_launcher("ssh", options);
  launcher->prepare(job);
  OpenNode far(*launcher, job.nodes[0], "5"), near(*launcher, job.nodes[1], "6");
  EXPECT_EQ(far.read_until(), "agent agent - got 5\n");
  EXPECT_EQ(near.read_until(), "agent agent - got 6\n");
  EXPECT_EQ(far.exit_code(), 5);
  EXPECT_EQ(near.exit_code(), 6);
  EXPECT_EQ(far.explanation(), "host 127.0.0.1 (rank 0): careful");
}

TEST_F(Ssh, OneConnectionCarriesEverySession) {
  on({"127.0.0.1", "127.0.0.1", "127.0.0.1"});
  const std::string before = sshd->log();
  const auto launcher = make_launcher("ssh", options);
  launcher->prepare(job);
  for (const NodeTask& task : job.nodes) {
    OpenNode node(*launcher, task, "0");
    EXPECT_EQ(node.read_until(), "agent agent - got 0\n");
  }
  const std::string log = sshd->log().substr(before.size());
  size_t connections = 0;
  for (size_t at = 0; (at = log.find("Accepted publickey", at)) != std::string::npos; ++at) ++connections;
  EXPECT_EQ(connections, 1u) << log;
}

TEST_F(Ssh, TheEndOfStdinReachesTheOtherSide) {
  expect_the_end_of_stdin_arrives(*make_launcher("ssh", options), job);
}

TEST_F(Ssh, TheAgentSeesTheEndWhenTheClientIsKilled) {
  options.program = executable(folder, "agent",
                               "#!/bin/sh\nread -r file\necho ready\ncat >/dev/null\necho gone >\"$file\"\n");
  const auto launcher = make_launcher("ssh", options);
  launcher->prepare(job);
  const std::string file = folder.path + "/gone";
  OpenNode node(*launcher, job.nodes[0], file);
  node.read_until("ready\n");
  kill(node.pid(), SIGKILL);
  EXPECT_TRUE(comes_true([&] { return std::filesystem::exists(file); }, seconds(10)));
}

TEST_F(Ssh, AMissingProgramIsNamedWithTheFix) {
  options.program = folder.path + "/none";
  EXPECT_EQ(refusal(*make_launcher("ssh", options), job),
            "host 127.0.0.1: " + folder.path +
                "/none is not there: where hosts share no file system, experiment.runner.no_shared_fs: true "
                "brings it");
}

TEST_F(Ssh, AnUnknownHostKey) {
  EXPECT_EQ(refusal_with("user", "known_none"),
            "host 127.0.0.1: its key is not known here: connect once by hand (ssh -p " + shown_port() +
                " 127.0.0.1), or ssh-keyscan -p " + shown_port() +
                " 127.0.0.1 >> ~/.ssh/known_hosts and check what it wrote");
}

TEST_F(Ssh, AChangedHostKey) {
  EXPECT_EQ(refusal_with("user", "known_wrong"),
            "host 127.0.0.1: its key is not the one that known_hosts has: where the host was installed anew, "
            "remove "
            "the old one with ssh-keygen -R '[127.0.0.1]:" +
                shown_port() + "'; else someone may stand between");
}

TEST_F(Ssh, AKeyThatItDoesNotTake) {
  EXPECT_EQ(
      refusal_with("stranger", "known_hosts"),
      "host 127.0.0.1: it does not take this user's key: ssh-copy-id -p " + shown_port() + " 127.0.0.1");
}

TEST_F(Ssh, NobodyListens) {
  job.ssh_port = free_port();
  EXPECT_EQ(refusal(*make_launcher("ssh", options), job),
            "host 127.0.0.1: nothing listens on port " + shown_port() +
                " there: start sshd, or set experiment.runner.ssh_port to its port");
}

TEST_F(Ssh, SomeoneElseListens) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  listen(fd, 8);
  std::thread server([&] {
    const int peer = accept(fd, nullptr, nullptr);
    write(peer, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    close(peer);
  });
  job.ssh_port = ntohs(address.sin_port);
  const std::string line = refusal(*make_launcher("ssh", options), job);
  server.join();
  close(fd);
  EXPECT_NE(line.find("host 127.0.0.1: "), std::string::npos) << line;
  EXPECT_NE(line.find("broke off before any ssh was spoken"), std::string::npos) << line;
}

TEST_F(Ssh, EveryHostThatFailsHasALine) {
  on({"127.0.0.1", "no-such-host.invalid", "also-none.invalid"});
  const std::string lines = refusal(*make_launcher("ssh", options), job);
  EXPECT_EQ(
      lines,
      "host also-none.invalid: nobody knows that name: correct it in the hostfile, or add it to /etc/hosts\n"
      "host no-such-host.invalid: nobody knows that name: correct it in the hostfile, or add it to "
      "/etc/hosts");
}

TEST_F(Ssh, ALostServerIsNamed) {
  const auto launcher = make_launcher("ssh", options);
  launcher->prepare(job);
  OpenNode node(*launcher, job.nodes[0], "deaf");
  node.read_until("got");
  sshd.reset();
  node.read_until();
  EXPECT_EQ(node.exit_code(), 255);
  EXPECT_EQ(node.explanation(),
            "host 127.0.0.1: it was lost: the connection ended (the last line from there: careful)");
}

// Any shell may be the one that users log in to.
TEST_F(Ssh, EveryLoginShell) {
  for (const std::string shell : {"/bin/sh", "/bin/bash", "/usr/bin/zsh", "/usr/bin/fish", "/usr/bin/tcsh"}) {
    if (access(shell.c_str(), X_OK) != 0) continue;
    // As sshd runs a command: SHELL -c COMMAND.
    TestSshd other("127.0.0.1", {}, 0, "ForceCommand " + shell + " -c \"$SSH_ORIGINAL_COMMAND\"\n");
    options.ssh_arguments = {"-F", other.config};
    job.ssh_port = other.port;
    const auto launcher = make_launcher("ssh", options);
    launcher->prepare(job);
    OpenNode node(*launcher, job.nodes[0], "5");
    EXPECT_EQ(node.read_until(), "agent agent - got 5\n") << shell;
    EXPECT_EQ(node.exit_code(), 5) << shell;
  }
}

// An archive as ./dev pack makes it, with a script in the program's place.
class SshTransfer : public Ssh {
 protected:
  void SetUp() override {
    Ssh::SetUp();
    if (IsSkipped()) return;
    const std::string agent = std::string(kScriptedAgent).insert(10, "echo \"from $0\" >&2\n");
    executable(folder, "flagscale-9-x86_64/bin/flagscale", agent);
    folder.put("flagscale-9-x86_64/lib/libx.so", std::string(3 << 20, 'x'));
    pack();
    options.no_shared_fs = true;
    options.archive = folder.path + "/program.tar.gz";
    options.program = "/nowhere/flagscale";
    // The other side's cache, not this user's.
    std::filesystem::create_directory(folder.path + "/cache");
    far_side = std::make_unique<TestSshd>("127.0.0.1", std::vector<std::string>{}, 0,
                                          "SetEnv \"XDG_CACHE_HOME=" + folder.path + "/cache\"\n");
    options.ssh_arguments = {"-F", far_side->config};
    job = job_on({"127.0.0.1"});
    job.ssh_port = far_side->port;
  }
  void pack() {
    run_all(
        {{{"tar", "-C", folder.path, "-czf", folder.path + "/program.tar.gz", "flagscale-9-x86_64"}, {}, {}}},
        {});
  }
  size_t programs() const {
    const std::filesystem::path place = folder.path + "/cache/flagscale/programs";
    if (!std::filesystem::exists(place)) return 0;
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(place), {}));
  }
  std::string start() {
    const auto launcher = make_launcher("ssh", options);
    launcher->prepare(job);
    OpenNode node(*launcher, job.nodes[0], "5");
    const std::string text = node.read_until();
    EXPECT_EQ(node.exit_code(), 5);
    return text;
  }

  std::unique_ptr<TestSshd> far_side;
};

TEST_F(SshTransfer, TheProgramIsBroughtOnce) {
  EXPECT_EQ(programs(), 0u);
  EXPECT_EQ(start(), "agent agent - got 5\n");
  ASSERT_EQ(programs(), 1u);
  const auto place = *std::filesystem::directory_iterator(folder.path + "/cache/flagscale/programs");
  EXPECT_EQ(place.path().filename().string().size(), 64u);  // its checksum
  const auto time = std::filesystem::last_write_time(place.path() / "bin/flagscale");
  const auto inode = run_all({{{"stat", "-c", "%i", place.path() / "bin/flagscale"}, {}, {}}}, {})[0].out;
  EXPECT_EQ(start(), "agent agent - got 5\n");
  EXPECT_EQ(programs(), 1u);
  EXPECT_EQ(std::filesystem::last_write_time(place.path() / "bin/flagscale"), time);
  EXPECT_EQ(run_all({{{"stat", "-c", "%i", place.path() / "bin/flagscale"}, {}, {}}}, {})[0].out, inode);
}

TEST_F(SshTransfer, AnotherProgramGoesBesideIt) {
  start();
  folder.put("flagscale-9-x86_64/share/x", "new");
  pack();
  start();
  EXPECT_EQ(programs(), 2u);
}

TEST_F(SshTransfer, ANodeThatIsBroughtNothingSaysWhy) {
  std::filesystem::remove_all(folder.path + "/cache");
  folder.put("cache", "a file where the folder should be");
  const std::string line = refusal(*make_launcher("ssh", options), job);
  EXPECT_TRUE(line.starts_with("host 127.0.0.1: the program could not be brought: mkdir: ")) << line;
}

TEST_F(SshTransfer, WithoutAnArchiveTheFixIsNamed) {
  options.archive.clear();
  options.program = folder.path + "/my agent's";
  const std::string line = refusal(*make_launcher("ssh", options), job);
  EXPECT_NE(line.find("./dev pack makes it"), std::string::npos) << line;
}

TEST_F(SshTransfer, AnUnpackedArchiveIsPackedAgainToTheSameBytes) {
  options.archive.clear();
  folder.put("flagscale-9-x86_64/share/flagscale/examples/x", "");
  options.program = folder.path + "/flagscale-9-x86_64/bin/flagscale";
  start();
  start();
  EXPECT_EQ(programs(), 1u);
}

TEST(SshFailure, IsNamedFromWhatSshSays) {
  EXPECT_EQ(explain_ssh_failure("me@b", 22, {"something", "odd"}), "");
  EXPECT_EQ(explain_ssh_failure("me@b", 22, {"me@b: Permission denied (publickey)."}),
            "host me@b: it does not take this user's key: ssh-copy-id -p 22 me@b");
  EXPECT_EQ(explain_ssh_failure("me@b", 22,
                                {"@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
                                 "Host key verification failed."}),
            "host me@b: its key is not the one that known_hosts has: where the host was installed anew, "
            "remove the old one with ssh-keygen -R 'b'; else someone may stand between");
}

}  // namespace
}  // namespace flagscale::launch
