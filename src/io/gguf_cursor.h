#pragma once
// The bytes of a GGUF header, value by value. Errors are kCorrupt with the file's name.

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "io/gguf.h"

namespace flagscale::io {

// Reads little-endian values in order; every step is checked against the end.
class GgufCursor {
 public:
  GgufCursor(const std::string& path, std::span<const std::byte> bytes) : path_(path), bytes_(bytes) {}

  template <class T>
  T take() {
    T value;
    std::memcpy(&value, need(sizeof(T)), sizeof(T));
    return value;
  }
  std::string_view take_string() {
    const auto length = take<uint64_t>();
    return {reinterpret_cast<const char*>(need(length)), static_cast<size_t>(length)};
  }
  // A count of items of at least `item_bytes` each: bounded by what is left, so nobody allocates more than
  // the file.
  uint64_t take_count(uint64_t item_bytes, const char* what) {
    const auto count = take<uint64_t>();
    if (count > left() / item_bytes)
      fail(ErrorKind::kCorrupt, "{}: says it has {} {}, more than {} bytes can hold", path_, count, what,
           left());
    return count;
  }
  uint64_t at() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }

 private:
  const std::byte* need(uint64_t count) {
    if (count > left())
      fail(ErrorKind::kCorrupt, "{}: the GGUF header is cut off at byte {}", path_, bytes_.size());
    const std::byte* from = bytes_.data() + at_;
    at_ += count;
    return from;
  }
  const std::string& path_;
  std::span<const std::byte> bytes_;
  uint64_t at_ = 0;
};

// A metadata value: its type, then itself. `key` is for messages.
GgufValue take_gguf_value(const std::string& path, const std::string& key, GgufCursor& cursor);

}  // namespace flagscale::io
