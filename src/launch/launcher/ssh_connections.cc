#include "launch/launcher/ssh_connections.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "launch/launcher/child.h"
#include "launch/launcher/shell_quote.h"

namespace flagscale::launch {

namespace {

// A socket's path has at most 107 bytes, ssh appends 17 while it makes one, and %C is 40: /tmp, not TMPDIR.
std::string socket_folder() {
  std::string name = "/tmp/flagscale-ssh-XXXXXX";
  if (!mkdtemp(name.data())) fail(ErrorKind::kResource, "cannot make {}: {}", name, std::strerror(errno));
  return name;
}

}  // namespace

SshConnections::SshConnections(int port, const LauncherOptions& options)
    : port_(port), folder_(socket_folder()) {
  constexpr int kUnanswered = 3;  // requests in lost_time
  const auto interval = std::max<int64_t>(1, options.lost_time.count() / kUnanswered);
  for (const std::string& option :
       {std::string("BatchMode=yes"), fmt::format("ConnectTimeout={}", options.connect_time.count()),
        fmt::format("ServerAliveInterval={}", interval),
        fmt::format("ServerAliveCountMax={}", kUnanswered - 1), std::string("ControlMaster=auto"),
        fmt::format("ControlPath={}/%C", folder_), std::string("ControlPersist=5"),
        std::string("LogLevel=ERROR"), std::string("ForwardX11=no"), std::string("RequestTTY=no")})
    options_.insert(options_.end(), {"-o", option});
  options_.insert(options_.end(), options.ssh_arguments.begin(), options.ssh_arguments.end());
}

SshConnections::~SshConnections() {
  std::error_code ignored;
  try {
    std::vector<Command> commands;
    for (const std::string& host : hosts_) {
      std::vector<std::string> words = ssh(host);
      words.insert(words.begin() + 1, {"-O", "exit"});
      commands.push_back({words, {}, {}});
    }
    run_all(commands, std::chrono::seconds(2));
  } catch (const Error&) {  // ControlPersist ends them
  }
  std::filesystem::remove_all(folder_, ignored);
}

std::vector<std::string> SshConnections::ssh(const std::string& host) const {
  std::vector<std::string> words = {"ssh", "-p", std::to_string(port_)};
  words.insert(words.end(), options_.begin(), options_.end());
  words.insert(words.end(), {"--", host});
  return words;
}

std::vector<std::string> SshConnections::argv(const std::string& host,
                                              const std::vector<std::string>& words) {
  hosts_.insert(host);
  std::vector<std::string> result = ssh(host);
  result.push_back(shell_quote(words));
  return result;
}

}  // namespace flagscale::launch
