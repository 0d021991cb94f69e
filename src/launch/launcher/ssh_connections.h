#pragma once
// OpenSSH's client, one connection a host, which its sessions share (ControlMaster): the key exchange is paid
// once.

#include <set>
#include <string>
#include <vector>

#include "launch/launcher/options.h"
#include "launch/launcher/scratch_folder.h"

namespace flagscale::launch {

class SshConnections {
 public:
  // Error{kNotFound} where there is no ssh.
  SshConnections(int port, const LauncherOptions& options);
  ~SshConnections();  // ends the connections
  SshConnections(const SshConnections&) = delete;
  SshConnections& operator=(const SshConnections&) = delete;

  // What runs `words` on the host: the login shell there reads them back as they are (shell_quote.h).
  std::vector<std::string> argv(const std::string& host, const std::vector<std::string>& words);
  int port() const { return port_; }
  const std::string& folder() const { return scratch_.path; }  // this object's own, removed with it

 private:
  std::vector<std::string> ssh(const std::string& host) const;

  int port_;
  ScratchFolder scratch_;  // of the connections' sockets
  std::vector<std::string> options_;
  std::set<std::string> hosts_;
};

}  // namespace flagscale::launch
