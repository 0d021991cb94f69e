#include "launch/launcher/ssh_connections.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "launch/launcher/child.h"
#include "launch/shell_quote.h"

namespace flagscale::launch {

SshConnections::SshConnections(int port, const LauncherOptions& options) : port_(port) {
  constexpr int kUnanswered = 3;  // requests in lost_time
  const auto interval = std::max<int64_t>(1, options.lost_time.count() / kUnanswered);
  for (const std::string& option :
       {std::string("BatchMode=yes"), fmt::format("ConnectTimeout={}", options.connect_time.count()),
        fmt::format("ServerAliveInterval={}", interval),
        fmt::format("ServerAliveCountMax={}", kUnanswered - 1), std::string("ControlMaster=auto"),
        fmt::format("ControlPath={}/%C", scratch_.path), std::string("ControlPersist=5"),
        std::string("LogLevel=ERROR"), std::string("ForwardX11=no"), std::string("RequestTTY=no")})
    options_.insert(options_.end(), {"-o", option});
  options_.insert(options_.end(), options.ssh_arguments.begin(), options.ssh_arguments.end());
}

SshConnections::~SshConnections() {
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
}

std::vector<std::string> SshConnections::ssh(const std::string& host) const {
  std::vector<std::string> words = {"ssh", "-p", std::to_string(port_)};
  words.insert(words.end(), options_.begin(), options_.end());
  words.insert(words.end(), {"--", host});
  return words;
}

std::vector<std::string> SshConnections::argv(const std::string& host,
                                              const std::vector<std::string>& words) {
  for (const std::string& word : words)
    if (word.find('\n') != std::string::npos)  // csh, where it is the login shell
      fail(ErrorKind::kInvalidArgument, "a word with a newline cannot go through ssh: '{}…'",
           word.substr(0, word.find('\n')));
  hosts_.insert(host);
  std::vector<std::string> result = ssh(host);
  result.push_back(shell_quote(words));
  return result;
}

}  // namespace flagscale::launch
