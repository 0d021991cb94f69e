#include "launch/launcher/scratch_folder.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/error.h"

namespace flagscale::launch {

namespace {

std::string new_folder(const std::string& parent) {
  std::string name = parent + "/flagscale-XXXXXX";
  if (!mkdtemp(name.data())) fail(ErrorKind::kResource, "cannot make {}: {}", name, std::strerror(errno));
  return name;
}

}  // namespace

ScratchFolder::ScratchFolder(const std::string& parent) : path(new_folder(parent)) {}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

}  // namespace flagscale::launch
