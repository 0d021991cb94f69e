#pragma once
// The Rust library's conventions in C++: buffers become strings, statuses become Error.

#include <cstdint>
#include <string>
#include <string_view>

#include "text/rust_text.h"

namespace flagscale::text {

inline const uint8_t* bytes_of(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

// Owns what a Rust function wrote.
class RustBuffer {
 public:
  RustBuffer() = default;
  ~RustBuffer() {
    if (buffer_.data) fs_buffer_free(buffer_);
  }
  RustBuffer(const RustBuffer&) = delete;
  RustBuffer& operator=(const RustBuffer&) = delete;
  FsBuffer* out() { return &buffer_; }
  std::string_view view() const { return {reinterpret_cast<const char*>(buffer_.data), buffer_.size}; }

 private:
  FsBuffer buffer_{};
};

// Throws for a status that is not 0: "what: the library's words". Invalid input is `invalid_kind`.
enum class RustFault { kCorruptFile, kInvalidArgument };
void check_rust(FsStatus status, const RustBuffer& buffer, std::string_view what, RustFault fault);

std::string rust_nfc(std::string_view text);

}  // namespace flagscale::text
