#include "io/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/text_encoding.h"
#include "io/mmap_file.h"

namespace flagscale::io {

namespace {
constexpr uint64_t kFlushStep = uint64_t{32}
                                << 20;  // start writing back early, so that fsync() has little left to do

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}
}  // namespace

void AtomicFile::fail_errno(const char* what) const {
  const int code = errno;
  const ErrorKind kind = code == ENOENT || code == ENOTDIR ? ErrorKind::kNotFound : ErrorKind::kResource;
  const std::string after = written_ == 0 ? "" : fmt::format(" after {} bytes", written_);
  fail(kind, "{}: {}{}: {}", path_, what, after, std::strerror(code));
}

AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)), temporary_(fmt::format("{}.{}.tmp", path_, getpid())) {
  fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_errno("cannot create");
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd_, bytes.data(), std::min<size_t>(bytes.size(), kFlushStep));
    if (count < 0) {
      if (errno == EINTR) continue;
      fail_errno("cannot write");
    }
    bytes = bytes.subspan(static_cast<size_t>(count));
    written_ += static_cast<uint64_t>(count);
    if (written_ - flushing_ >= kFlushStep) {
      sync_file_range(fd_, static_cast<off64_t>(flushing_), static_cast<off64_t>(written_ - flushing_),
                      SYNC_FILE_RANGE_WRITE);  // a hint: where it is not supported, fsync() does all
      flushing_ = written_;
    }
  }
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text))); }

void AtomicFile::commit() {
  if (fsync(fd_) != 0) fail_errno("cannot flush");
  if (close(std::exchange(fd_, -1)) != 0) fail_errno("cannot close");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail_errno("cannot rename");
  temporary_.clear();
  sync_folder(folder_of(path_));
}

void write_file(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

std::string read_file(const std::string& path, uint64_t max_bytes) {
  const MmapFile file(path);
  const auto bytes = file.bytes();
  if (bytes.size() > max_bytes)
    fail(ErrorKind::kCorrupt, "{}: {} bytes, expected at most {}", path, bytes.size(), max_bytes);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string read_text(const std::string& path, uint64_t max_bytes) {
  std::string text = read_file(path, max_bytes);
  refuse_other_encoding(text, path);
  return text;
}

void sync_folder(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail(ErrorKind::kResource, "{}: cannot open the folder: {}", path, std::strerror(errno));
  const int result = fsync(fd);
  const int code = errno;
  close(fd);
  if (result != 0 && code != EINVAL)  // some network file systems cannot sync a folder
    fail(ErrorKind::kResource, "{}: cannot flush the folder: {}", path, std::strerror(code));
}

}  // namespace flagscale::io
