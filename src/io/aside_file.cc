#include "io/aside_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/error.h"

namespace flagscale::io {

void AsideFile::fail_errno(const char* what) const {
  const int code = errno;
  const std::string after = written_ == 0 ? "" : fmt::format(" after {} bytes", written_);
  fail(ErrorKind::kResource, "{}: {} a file in it{}: {}", folder_, what, after, std::strerror(code));
}

AsideFile::AsideFile(const std::string& folder) : folder_(folder) {
  // Should the process be killed in between, what is left has a name that the next save removes.
  const std::string path = fmt::format("{}/iter_aside_{}.tmp", folder, getpid());
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd_ < 0) fail_errno("cannot create");
  unlink(path.c_str());
}

AsideFile::~AsideFile() {
  if (mapped_) munmap(mapped_, written_);
  close(fd_);
}

void AsideFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd_, bytes.data(), bytes.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      fail_errno("cannot write");
    }
    bytes = bytes.subspan(static_cast<size_t>(count));
    written_ += static_cast<uint64_t>(count);
  }
}

std::span<const std::byte> AsideFile::bytes() {
  FLAGSCALE_CHECK(mapped_ == nullptr);
  if (written_ == 0) return {};
  void* const mapped = mmap(nullptr, written_, PROT_READ, MAP_SHARED, fd_, 0);
  if (mapped == MAP_FAILED) fail_errno("cannot map");
  mapped_ = mapped;
  return {static_cast<const std::byte*>(mapped_), written_};
}

}  // namespace flagscale::io
