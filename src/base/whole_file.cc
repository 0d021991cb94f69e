#include "base/whole_file.h"

#include <fmt/format.h>
#include <limits.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/error.h"

namespace flagscale {

namespace fs = std::filesystem;

void write_whole_file(const fs::path& file, std::string_view text) {
  std::error_code error;
  if (file.has_parent_path()) fs::create_directories(file.parent_path(), error);
  if (error)
    fail(ErrorKind::kResource, "cannot make the folder {}: {}", file.parent_path().string(), error.message());
  char host[HOST_NAME_MAX + 1] = {};
  gethostname(host, HOST_NAME_MAX);  // hosts that share the folder may write at the same time
  const fs::path aside = fmt::format("{}.{}.{}.tmp", file.string(), host, getpid());
  errno = 0;
  std::ofstream out(aside, std::ios::binary);
  out << text;
  out.close();
  const int why = errno;
  if (out) fs::rename(aside, file, error);
  if (out && !error) return;
  std::error_code ignored;
  fs::remove(aside, ignored);
  fail(ErrorKind::kResource, "cannot write {}: {}", file.string(),
       error ? error.message() : std::strerror(why));
}

}  // namespace flagscale
