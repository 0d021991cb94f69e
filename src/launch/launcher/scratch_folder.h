#pragma once
// A folder of one launcher, removed with it.

#include <string>

namespace flagscale::launch {

// In /tmp, not in TMPDIR: ssh's sockets lie in it, and a socket's path has at most 107 bytes.
class ScratchFolder {
 public:
  ScratchFolder();  // Error{kResource}
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string path;
};

}  // namespace flagscale::launch
