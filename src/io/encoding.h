#pragma once
// How the elements of a stored tensor are encoded: a plain DType, one of GGUF's block formats, or e4m3, whose
// scales are another tensor (weights.h).
//
// A block format packs `block_elements` neighbours of the last dimension in `block_bytes`. decode_f32()
// gives, bit for bit, the fp32 values that the PyPI package `gguf` gives (quants.dequantize), which are
// ggml's.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "tensor/dtype.h"

namespace flagscale::io {

enum class Encoding : uint8_t {
  kPlain,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kFp8
};

struct BlockSize {
  int64_t elements, bytes;
};
BlockSize block_size(Encoding encoding, DType dtype);  // {1, size_of(dtype)} when plain
std::string_view name(Encoding encoding);              // "Q4_K"; "plain"

// Decodes elements [begin, begin + out.size()) of a run of blocks to fp32. The run must hold them: the caller
// has checked sizes (that is a FLAGSCALE_CHECK here). Plain integer and bool types convert by value.
void decode_f32(Encoding encoding, DType dtype, std::span<const std::byte> blocks, int64_t begin,
                std::span<float> out);

// fp32 to another floating type, rounding to nearest even; out holds in.size() elements of dtype. Throws
// Error{kInvalidArgument} for a number that float16 cannot hold.
void encode_plain(std::span<const float> in, DType dtype, std::span<std::byte> out);

}  // namespace flagscale::io
