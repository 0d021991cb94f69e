#pragma once
// A file mapped read-only. Empty files map to an empty span. Errors name the file: kNotFound, kResource
// (permission), and kInvalidArgument for what is not a regular file.

#include <cstddef>
#include <span>
#include <string>

namespace flagscale::io {

class MmapFile {
 public:
  explicit MmapFile(const std::string& path);
  ~MmapFile();
  MmapFile(MmapFile&& other) noexcept;
  MmapFile& operator=(MmapFile&& other) noexcept;
  MmapFile(const MmapFile&) = delete;
  MmapFile& operator=(const MmapFile&) = delete;

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace flagscale::io
