#include "launch/diagnosis/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <vector>

#include "base/error.h"

namespace flagscale::launch {

namespace {

constexpr size_t kChunk = 256 * 1024;

class Descriptor {
 public:
  explicit Descriptor(const std::filesystem::path& path)
      : number_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

[[noreturn]] void cannot_read(const std::filesystem::path& path) {
  fail(ErrorKind::kResource, "{}: cannot be read: {}", path.string(), std::strerror(errno));
}

}  // namespace

int year_of(const std::filesystem::path& path) {
  struct stat info{};
  const std::time_t time = stat(path.c_str(), &info) == 0 ? info.st_mtime : std::time(nullptr);
  std::tm broken{};
  gmtime_r(&time, &broken);
  return broken.tm_year + 1900;
}

LogFile::LogFile(std::filesystem::path path, uint64_t from)
    : path_(std::move(path)), offset_(from), scan_(year_of(path_)) {}

bool LogFile::read() {
  const Descriptor file(path_);
  if (file.number() < 0) {
    if (errno == ENOENT) return false;
    cannot_read(path_);
  }
  struct stat info{};
  if (fstat(file.number(), &info) != 0) cannot_read(path_);
  if ((inode_ != 0 && inode_ != info.st_ino) ||
      (S_ISREG(info.st_mode) && static_cast<uint64_t>(info.st_size) < offset_)) {
    scan_.flush();
    offset_ = 0;
  }
  inode_ = info.st_ino;
  std::vector<char> chunk(kChunk);
  const uint64_t before = offset_;
  while (true) {
    const ssize_t size = pread(file.number(), chunk.data(), chunk.size(), static_cast<off_t>(offset_));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) cannot_read(path_);
    if (size == 0) break;
    scan_.feed({chunk.data(), static_cast<size_t>(size)});
    offset_ += static_cast<uint64_t>(size);
  }
  return offset_ != before;
}

}  // namespace flagscale::launch
