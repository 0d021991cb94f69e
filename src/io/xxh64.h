#pragma once
// XXH64, the 64-bit xxHash (github.com/Cyan4973/xxHash, doc/xxhash_spec.md), over bytes that come in pieces.
// It guards against damage, not against forgery. About 12 GB/s a core.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace flagscale::io {

class Xxh64 {
 public:
  explicit Xxh64(uint64_t seed = 0);
  void update(std::span<const std::byte> bytes);
  uint64_t digest() const;

 private:
  std::array<uint64_t, 4> lanes_;
  uint64_t seed_, total_ = 0;
  std::array<std::byte, 32> tail_{};  // total_ % 32 bytes not yet in the lanes
};

uint64_t xxh64(std::span<const std::byte> bytes, uint64_t seed = 0);
std::string checksum_text(uint64_t digest);  // "xxh64:0123456789abcdef"

}  // namespace flagscale::io
