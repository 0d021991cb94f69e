#include "base/made_folder.h"

#include "base/error.h"

namespace flagscale {

namespace fs = std::filesystem;

MadeFolder::MadeFolder(const fs::path& folder) {
  std::error_code error;
  const fs::path whole = fs::absolute(folder).lexically_normal();
  for (fs::path at = whole.has_filename() ? whole : whole.parent_path(); !fs::exists(at, error) && !error;
       at = at.parent_path())
    made_.push_back(at);
  fs::create_directories(folder, error);
  if (!error) return;
  std::error_code ignored;
  for (const fs::path& each : made_) fs::remove(each, ignored);
  fail(ErrorKind::kResource, "cannot make the folder {}: {}", folder.string(), error.message());
}

MadeFolder::~MadeFolder() {
  std::error_code ignored;
  for (const fs::path& each : made_) fs::remove(each, ignored);
}

}  // namespace flagscale
