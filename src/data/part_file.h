#pragma once
// A file that grows at its end and outlives its writer: flushed at agreed points, cut back to one of them on
// resuming.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace flagscale::data {

class PartFile {
 public:
  // Opens `path`, made where missing, and cuts it to `keep` bytes. kCorrupt when it is shorter than that,
  // kResource when another process has it open this way or the disk says no.
  PartFile(std::string path, uint64_t keep);
  ~PartFile();  // unflushed bytes are dropped
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  void append(std::span<const std::byte> bytes);
  template <class T>
  void append_value(T value) {
    append(std::as_bytes(std::span<const T, 1>(&value, 1)));
  }
  void flush();  // to the operating system
  void sync();   // flush, then to the disk

  uint64_t size() const { return size_; }  // unflushed bytes included
  const std::string& path() const { return path_; }
  // Reads flushed bytes back.
  void read(uint64_t start, std::span<std::byte> out) const;

 private:
  [[noreturn]] void fail_errno(const char* what) const;
  void write_out(std::span<const std::byte> bytes);

  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
  std::vector<std::byte> buffer_;
};

}  // namespace flagscale::data
