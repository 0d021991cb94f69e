#include "launch/launcher/this_program.h"

#include <system_error>

#include "base/error.h"

namespace flagscale::launch {

namespace fs = std::filesystem;

std::string this_program(const LauncherOptions& options) {
  if (!options.program.empty()) return options.program;
  std::error_code error;
  const fs::path path = fs::read_symlink("/proc/self/exe", error);
  if (error || !fs::exists(path))  // the kernel appends " (deleted)"
    fail(ErrorKind::kNotFound,
         "this program's file is gone ({}): it was replaced while it ran; start it again", path.string());
  return path;
}

}  // namespace flagscale::launch
