#pragma once
// A folder of one object, removed with it.

#include <string>

namespace flagscale::launch {

class ScratchFolder {
 public:
  // A launcher's is in /tmp, not in TMPDIR: ssh's sockets lie in it, and a socket's path has at most 107
  // bytes. Error{kResource}.
  explicit ScratchFolder(const std::string& parent = "/tmp");
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string path;
};

}  // namespace flagscale::launch
