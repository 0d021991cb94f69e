#pragma once
// For tests: an sshd of their own, with its own keys, on a free port of 127.0.0.1 or inside a network
// namespace, and a client configuration that knows it. Nothing of this machine's or this user's ssh is read
// or changed.

#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "launch/launcher/child.h"
#include "launch/launcher/launcher_test_support.h"
#include "launch/placement.h"

namespace flagscale::launch {

inline std::string sshd_program() {  // "" where there is none
  for (const char* path : {"/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd"})
    if (access(path, X_OK) == 0) return path;
  return {};
}

class TestSshd {
 public:
  // `before`: what sshd is started with, such as `ip netns exec NAME`. which_port: 0 is any that is free.
  explicit TestSshd(const std::string& address = "127.0.0.1", std::vector<std::string> before = {},
                    int which_port = 0, const std::string& settings = {})
      : address_(address) {
    key("host"), key("user"), key("stranger");
    folder.put("authorized_keys", text("user.pub"));
    port = which_port != 0 ? which_port : free_port();
    folder.put("sshd_config", "Port " + std::to_string(port) + "\nListenAddress " + address + "\nHostKey " +
                                  folder.path + "/host\nAuthorizedKeysFile " + folder.path +
                                  "/authorized_keys\nPidFile none\nUsePAM no\nStrictModes no\n"
                                  "PasswordAuthentication no\nKbdInteractiveAuthentication no\n" +
                                  settings);
    put_known("host.pub");
    config = client("user", "known_hosts");
    before.insert(before.end(),
                  {sshd_program(), "-D", "-E", folder.path + "/log", "-f", folder.path + "/sshd_config"});
    if (geteuid() == 0)
      mkdir("/run/sshd", 0755);  // where root's sshd confines itself; a service makes it otherwise
    started_ = start_child({before, {}, {}});
    const Command hello{{"ssh", "-F", config, "-p", std::to_string(port), address, "exit"}, {}, {}};
    const auto here = [&] { return run_all({hello}, {})[0].exit_code == 0; };
    if (!comes_true(here, std::chrono::seconds(10)))
      throw std::runtime_error("sshd does not answer: " + text("log"));
  }
  ~TestSshd() { end(); }

  // With all that it started: each connection's processes are in sessions of their own.
  void end() {
    if (started_.pid == 0) return;
    end_below(started_.pid);
    waitpid(started_.pid, nullptr, 0);
    for (int fd : {started_.in, started_.out, started_.err}) close(fd);
    started_.pid = 0;
  }

  std::string log() const { return text("log"); }

  // A client's configuration with this key and this file of known hosts.
  std::string client(const std::string& identity, const std::string& known) const {
    return folder.put(
        "client_" + identity + "_" + known,
        "Host *\n  IdentityFile " + folder.path + "/" + identity +
            "\n  IdentitiesOnly yes\n  UserKnownHostsFile " + folder.path + "/" + known +
            "\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  PasswordAuthentication no\n");
  }

  TemporaryFolder folder;
  int port = 0;
  std::string config;  // of a client that may come in

 private:
  static void end_below(pid_t pid) {
    kill(pid, SIGSTOP);  // so that it starts no more
    const Finished below = run_all({{{"pgrep", "-P", std::to_string(pid)}, {}, {}}}, {})[0];
    for (const std::string& line : lines_of(below.out)) end_below(std::stoi(line));
    kill(pid, SIGKILL);
  }
  void key(const std::string& name) const {
    run_all({{{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder.path + "/" + name}, {}, {}}}, {});
  }
  std::string text(const std::string& name) const {
    std::ifstream file(folder.path + "/" + name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void put_known(const std::string& public_key) const {
    const std::string host = "[" + address_ + "]:" + std::to_string(port) + " ";
    folder.put("known_hosts", host + text(public_key));
    folder.put("known_wrong", host + text("stranger.pub"));
    folder.put("known_none", "");
  }

  std::string address_;
  Started started_;
};

}  // namespace flagscale::launch
