#include "io/mmap_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace flagscale::io {

namespace {
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

[[noreturn]] void fail_errno(const std::string& path, const char* what) {
  const int code = errno;
  const ErrorKind kind = code == ENOENT || code == ENOTDIR ? ErrorKind::kNotFound : ErrorKind::kResource;
  fail(kind, "{}: {}: {}", path, what, std::strerror(code));
}
}  // namespace

MmapFile::MmapFile(const std::string& path) : path_(path) {
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};  // a FIFO must not block us
  if (file.fd < 0) fail_errno(path, "cannot open");
  struct stat status{};
  if (fstat(file.fd, &status) != 0) fail_errno(path, "cannot stat");
  if (S_ISDIR(status.st_mode)) fail(ErrorKind::kInvalidArgument, "{} is a folder, expected a file", path);
  if (!S_ISREG(status.st_mode)) fail(ErrorKind::kInvalidArgument, "{}: not a regular file", path);
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  void* data = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.fd, 0);
  if (data == MAP_FAILED) {
    size_ = 0;
    fail_errno(path, "cannot map");
  }
  data_ = data;
}

MmapFile::~MmapFile() {
  if (data_) munmap(data_, size_);
}

MmapFile::MmapFile(MmapFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MmapFile& MmapFile::operator=(MmapFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace flagscale::io
