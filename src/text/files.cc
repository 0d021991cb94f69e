#include "text/files.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/text_encoding.h"

namespace flagscale::text {

namespace fs = std::filesystem;

bool is_file(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

bool is_folder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

std::string read_text_file(const std::string& path) {
  constexpr uint64_t kMost = uint64_t{512} << 20;
  std::error_code error;
  const uint64_t size = fs::file_size(path, error);
  if (error) fail(ErrorKind::kNotFound, "cannot read {}: {}", path, error.message());
  if (size > kMost) fail(ErrorKind::kCorrupt, "{}: {} bytes is no tokenizer file", path, size);
  std::ifstream file(path, std::ios::binary);
  constexpr uint64_t kRoomForParsers = 64;  // simdjson reads on behind a text
  std::string text;
  text.reserve(size + kRoomForParsers);
  text.resize(size);
  if (!file.read(text.data(), static_cast<std::streamsize>(size)))
    fail(ErrorKind::kResource, "cannot read {}: {}", path, std::strerror(errno));
  refuse_other_encoding(text, path);
  return text;
}

void write_text_file(const std::string& path, const std::string& text) {
  const std::string aside = path + ".part";
  {
    std::ofstream file(aside, std::ios::binary | std::ios::trunc);
    file.write(text.data(), static_cast<std::streamsize>(text.size()));
    file.flush();
    if (!file) {
      const int reason = errno;
      std::error_code ignored;
      fs::remove(aside, ignored);
      fail(ErrorKind::kResource, "cannot write {}: {}", path, std::strerror(reason));
    }
  }
  std::error_code error;
  fs::rename(aside, path, error);
  if (error) fail(ErrorKind::kResource, "cannot write {}: {}", path, error.message());
}

}  // namespace flagscale::text
