#include "launch/launcher/ssh_failure.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

namespace flagscale::launch {

namespace {

// What OpenSSH writes, what it means, and the fix. {0}: the host without its user, {1}: the port, {2}: the
// host as the hostfile has it, {3}: the host as known_hosts names it.
struct Failure {
  std::string_view sign, line;
};
constexpr std::array kFailures = {
    Failure{"REMOTE HOST IDENTIFICATION HAS CHANGED",
            "its key is not the one that known_hosts has: where the host was installed anew, remove the old "
            "one with "
            "ssh-keygen -R '{3}'; else someone may stand between"},
    Failure{"Host key verification failed",
            "its key is not known here: connect once by hand (ssh -p {1} {2}), or ssh-keyscan -p {1} {0} >> "
            "~/.ssh/known_hosts and check what it wrote"},
    Failure{"Permission denied (", "it does not take this user's key: ssh-copy-id -p {1} {2}"},
    Failure{"Too many authentication failures",
            "the agent offered too many keys before the right one: name it in ~/.ssh/config (IdentityFile, "
            "IdentitiesOnly yes)"},
    Failure{"Could not resolve hostname",
            "nobody knows that name: correct it in the hostfile, or add it to /etc/hosts"},
    Failure{"Connection refused",
            "nothing listens on port {1} there: start sshd, or set experiment.runner.ssh_port to its port"},
    Failure{"No route to host", "there is no way to it: is it up, and in this network?"},
    Failure{"Network is unreachable", "there is no way to it: is it up, and in this network?"},
    Failure{"Connection timed out",
            "it did not answer on port {1}: is it up, does a firewall stand between, is "
            "experiment.runner.ssh_port "
            "right?"},
    Failure{"Timeout, server", "it was lost: it has not answered for experiment.runner.lost_timeout seconds"},
    Failure{"kex_exchange_identification",
            "what answers on port {1} broke off before any ssh was spoken: is that sshd's port "
            "(experiment.runner.ssh_port)? If it is, its log there says why (MaxStartups, TCP wrappers)"},
    Failure{"Connection reset",
            "it broke the connection off: sshd's log there says why (MaxSessions, a full disk, no memory)"},
    Failure{"Connection closed by",
            "it broke the connection off: sshd's log there says why (MaxSessions, a full disk, no memory)"},
    Failure{"Broken pipe", "it was lost: the connection broke"},
};

}  // namespace

std::string explain_ssh_failure(const std::string& host, int port, const std::vector<std::string>& err) {
  const std::string bare = host.substr(host.find('@') + 1);
  const std::string known = port == 22 ? bare : fmt::format("[{}]:{}", bare, port);
  for (const Failure& failure : kFailures)
    for (const std::string& line : err)
      if (line.find(failure.sign) != std::string::npos)
        return fmt::format("host {}: {}", host,
                           fmt::format(fmt::runtime(failure.line), bare, port, host, known));
  return {};
}

}  // namespace flagscale::launch
