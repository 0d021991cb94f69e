#pragma once
// The bytes of an .idx file, checked once:
//   "MMIDIDX\0\0", u64 version = 1, u8 type code, u64 sequences N, u64 documents + 1 = D,
//   i32[N] lengths, i64[N] byte offsets into .bin, i64[D] document boundaries 0 .. N, optionally i8[N] modes.
// All little-endian and none of the arrays aligned.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "data/token_type.h"

namespace flagscale::data {

inline constexpr int64_t kIndexHeaderBytes = 34;
inline constexpr char kIndexMagic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};

class IndexView {
 public:
  // Reads the header and checks every field and entry; `file` names it in errors, `bin_bytes` is the length
  // of the .bin beside it. kCorrupt says which field, what it is and what it should be. Costs one pass over
  // the bytes.
  IndexView(std::span<const std::byte> bytes, uint64_t bin_bytes, const std::string& file);

  TokenType type() const { return type_; }
  int64_t sequences() const { return sequences_; }
  int64_t documents() const { return documents_; }
  int64_t tokens() const { return tokens_; }  // sum of lengths
  uint64_t bin_bytes_used() const { return bin_bytes_used_; }
  bool has_modes() const { return modes_ != nullptr; }

  // No bounds are checked: i in [0, sequences()), document in [0, documents()].
  int32_t length(int64_t i) const { return load<int32_t>(lengths_ + 4 * i); }
  int64_t offset(int64_t i) const { return load<int64_t>(offsets_ + 8 * i); }
  int64_t document(int64_t i) const { return load<int64_t>(boundaries_ + 8 * i); }  // its first sequence
  int8_t mode(int64_t i) const { return modes_ == nullptr ? int8_t{0} : load<int8_t>(modes_ + i); }

 private:
  void read_header(std::span<const std::byte> bytes, const std::string& file);
  void check_sequences(uint64_t bin_bytes, const std::string& file);
  void check_documents(const std::string& file) const;

  TokenType type_ = TokenType::kI32;
  int64_t sequences_ = 0, documents_ = 0, tokens_ = 0;
  uint64_t bin_bytes_used_ = 0;
  const std::byte *lengths_ = nullptr, *offsets_ = nullptr, *boundaries_ = nullptr, *modes_ = nullptr;
};

}  // namespace flagscale::data
