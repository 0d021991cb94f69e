#pragma once
// Files that appear whole or not at all: bytes go to a temporary file beside the target, and commit() flushes
// it to disk and renames it. On any error, and when commit() was not called, the temporary file is removed
// and the target is as it was. A full disk, a missing permission or a missing folder is an Error that names
// the file.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace flagscale::io {

class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  uint64_t written() const { return written_; }
  void commit();

 private:
  void fail_errno(const char* what) const;
  std::string path_, temporary_;
  int fd_ = -1;
  uint64_t written_ = 0, flushing_ = 0;
};

void write_file(const std::string& path, std::string_view text);  // atomically
std::string read_file(const std::string& path, uint64_t max_bytes = uint64_t{1} << 30);
std::string read_text(const std::string& path, uint64_t max_bytes = uint64_t{1} << 30);  // no UTF-16 or -32
void sync_folder(const std::string& path);  // makes names created or renamed in it survive a power cut

}  // namespace flagscale::io
