#pragma once
// Bytes that are put aside on disk for a while: a file of a folder without a name, which is gone with this
// object or the process. Errors name the folder.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace flagscale::io {

class AsideFile {
 public:
  explicit AsideFile(const std::string& folder);
  ~AsideFile();
  AsideFile(const AsideFile&) = delete;
  AsideFile& operator=(const AsideFile&) = delete;

  void write(std::span<const std::byte> bytes);
  uint64_t written() const { return written_; }
  // All that was written, mapped. Call once, at the end.
  std::span<const std::byte> bytes();

 private:
  [[noreturn]] void fail_errno(const char* what) const;
  std::string folder_;
  int fd_ = -1;
  uint64_t written_ = 0;
  void* mapped_ = nullptr;
};

}  // namespace flagscale::io
