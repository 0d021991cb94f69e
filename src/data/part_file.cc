#include "data/part_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/error.h"

namespace flagscale::data {
namespace {
constexpr size_t kBufferBytes = size_t{1} << 20;
}

void PartFile::fail_errno(const char* what) const {
  const int code = errno;
  const ErrorKind kind = code == ENOENT || code == ENOTDIR ? ErrorKind::kNotFound : ErrorKind::kResource;
  const std::string after = size_ == 0 ? "" : fmt::format(" after {} bytes", size_);
  fail(kind, "{}: {}{}: {}", path_, what, after, std::strerror(code));
}

PartFile::PartFile(std::string path, uint64_t keep) : path_(std::move(path)), size_(keep) {
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_errno("cannot create");
  try {
    struct stat status{};
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
      fail(ErrorKind::kResource, "{}: another process is writing it", path_);
    if (::fstat(fd_, &status) != 0) fail_errno("cannot stat");
    if (static_cast<uint64_t>(status.st_size) < keep)
      fail(ErrorKind::kCorrupt, "{}: {} bytes, {} were written before", path_, status.st_size, keep);
    if (::ftruncate(fd_, static_cast<off_t>(keep)) != 0) fail_errno("cannot cut");
    if (::lseek(fd_, static_cast<off_t>(keep), SEEK_SET) < 0) fail_errno("cannot seek");
  } catch (...) {
    ::close(fd_);
    throw;
  }
  buffer_.reserve(kBufferBytes);
}

PartFile::~PartFile() { ::close(fd_); }

void PartFile::append(std::span<const std::byte> bytes) {
  size_ += bytes.size();
  if (buffer_.size() + bytes.size() > kBufferBytes) flush();
  if (bytes.size() >= kBufferBytes)
    write_out(bytes);
  else
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

void PartFile::write_out(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_errno("cannot write");
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

void PartFile::flush() {
  write_out(buffer_);
  buffer_.clear();
}

void PartFile::sync() {
  flush();
  if (::fdatasync(fd_) != 0) fail_errno("cannot flush");
}

void PartFile::read(uint64_t start, std::span<std::byte> out) const {
  FLAGSCALE_CHECK(start + out.size() <= size_ - buffer_.size());
  while (!out.empty()) {
    const ssize_t count = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(start));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_errno("cannot read");
    if (count == 0) fail(ErrorKind::kCorrupt, "{}: ends at byte {}, {} were written", path_, start, size_);
    out = out.subspan(static_cast<size_t>(count));
    start += static_cast<uint64_t>(count);
  }
}

}  // namespace flagscale::data
