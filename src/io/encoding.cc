#include "io/encoding.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/error.h"

namespace flagscale::io {

namespace {
// Each function decodes one block, in the order of operations of the reference: a product and then a sum,
// never fused
// (-ffp-contract=off), so that results are equal bit for bit. Layouts are ggml's.
using Block = const uint8_t*;

float half_at(Block at) {
  F16 value;
  std::memcpy(&value, at, 2);
  return to_float(value);
}

uint32_t word_at(Block at) {
  uint32_t value;
  std::memcpy(&value, at, 4);
  return value;
}

// 32 elements: half d, 16 bytes of low and high nibbles.
void decode_q4_0(Block b, float* out) {
  const float d = half_at(b);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((b[2 + i] & 15) - 8);
    out[i + 16] = d * static_cast<float>((b[2 + i] >> 4) - 8);
  }
}

// 32 elements: half d, half m, nibbles.
void decode_q4_1(Block b, float* out) {
  const float d = half_at(b), m = half_at(b + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(b[4 + i] & 15) + m;
    out[i + 16] = d * static_cast<float>(b[4 + i] >> 4) + m;
  }
}

// 32 elements: half d, 32 high bits, nibbles.
void decode_q5_0(Block b, float* out) {
  const float d = half_at(b);
  const uint32_t high = word_at(b + 2);
  for (uint32_t i = 0; i < 16; ++i) {
    const uint32_t low = (b[6 + i] & 15u) | ((high >> i & 1u) << 4);
    const uint32_t top = (b[6 + i] >> 4) | ((high >> (i + 16) & 1u) << 4);
    out[i] = d * static_cast<float>(static_cast<int>(low) - 16);
    out[i + 16] = d * static_cast<float>(static_cast<int>(top) - 16);
  }
}

// 32 elements: half d, half m, 32 high bits, nibbles.
void decode_q5_1(Block b, float* out) {
  const float d = half_at(b), m = half_at(b + 2);
  const uint32_t high = word_at(b + 4);
  for (uint32_t i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((b[8 + i] & 15u) | ((high >> i & 1u) << 4)) + m;
    out[i + 16] = d * static_cast<float>((b[8 + i] >> 4) | ((high >> (i + 16) & 1u) << 4)) + m;
  }
}

// 32 elements: half d, 32 signed bytes.
void decode_q8_0(Block b, float* out) {
  const float d = half_at(b);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<int8_t>(b[2 + i])) * d;
}

// 256 elements: 16 bytes of 4-bit scale and minimum, 64 bytes of 2-bit values, half d, half dmin.
void decode_q2_k(Block b, float* out) {
  const float d = half_at(b + 80), dmin = half_at(b + 82);
  for (int i = 0; i < 256; ++i) {
    const int group = i / 16, shift = (i / 32) % 4 * 2;
    const int q = b[16 + i / 128 * 32 + i % 32] >> shift & 3;
    const float dl = d * static_cast<float>(b[group] & 15), ml = dmin * static_cast<float>(b[group] >> 4);
    out[i] = dl * static_cast<float>(q) - ml;
  }
}

// 256 elements: 32 bytes of high bits (0 means minus 4), 64 of 2-bit values, 12 of 6-bit scales, half d.
void decode_q3_k(Block b, float* out) {
  const float d = half_at(b + 108);
  std::array<float, 16> scales;
  for (int i = 0; i < 16; ++i) {
    const int low = i < 8 ? b[96 + i] & 15 : b[96 + i - 8] >> 4;
    const int high = b[104 + i % 4] >> (i / 4 * 2) & 3;
    scales[static_cast<size_t>(i)] = d * static_cast<float>((low | high << 4) - 32);
  }
  for (int i = 0; i < 256; ++i) {
    const int low = b[32 + i / 128 * 32 + i % 32] >> ((i / 32) % 4 * 2) & 3;
    const int minus = b[i % 32] >> (i / 32) & 1 ? 0 : 4;
    out[i] = scales[static_cast<size_t>(i / 16)] * static_cast<float>(low - minus);
  }
}

// The eight 6-bit scales and minima of Q4_K and Q5_K, packed in 12 bytes.
struct ScaleMin {
  float scale, min;
};
ScaleMin scale_min(Block s, int j, float d, float dmin) {
  const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 2 & 48);
  const int min = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 2 & 48);
  return {d * static_cast<float>(scale), dmin * static_cast<float>(min)};
}

// 256 elements: half d, half dmin, 12 bytes of scales, 128 of nibbles.
void decode_q4_k(Block b, float* out) {
  const float d = half_at(b), dmin = half_at(b + 2);
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = scale_min(b + 4, j, d, dmin);
    const Block q = b + 16 + j / 2 * 32;
    const int shift = j % 2 * 4;
    for (int i = 0; i < 32; ++i) out[j * 32 + i] = s.scale * static_cast<float>(q[i] >> shift & 15) - s.min;
  }
}

// 256 elements: as Q4_K, with 32 bytes of fifth bits before the nibbles.
void decode_q5_k(Block b, float* out) {
  const float d = half_at(b), dmin = half_at(b + 2);
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = scale_min(b + 4, j, d, dmin);
    const Block q = b + 48 + j / 2 * 32;
    const int shift = j % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      const int value = (q[i] >> shift & 15) | (b[16 + i] >> j & 1) << 4;
      out[j * 32 + i] = s.scale * static_cast<float>(value) - s.min;
    }
  }
}

// 256 elements: 128 bytes of nibbles, 64 of 2-bit tops, 16 signed scales, half d. Each scale has 16 elements.
void decode_q6_k(Block b, float* out) {
  const float d = half_at(b + 208);
  for (int group = 0; group < 16; ++group) {
    const int half = group / 8, part = group / 2 % 4, lane = group % 2 * 16;
    const Block low = b + half * 64 + part % 2 * 32 + lane, top = b + 128 + half * 32 + lane;
    const int low_shift = part / 2 * 4, top_shift = part * 2;
    const float scale = d * static_cast<float>(static_cast<int8_t>(b[192 + group]));
    for (int i = 0; i < 16; ++i) {
      const int value = (low[i] >> low_shift & 15) | (top[i] >> top_shift & 3) << 4;
      out[group * 16 + i] = scale * static_cast<float>(value - 32);
    }
  }
}

struct Format {
  std::string_view name;
  BlockSize block;
  void (*decode)(Block, float*);
};
constexpr std::array<Format, 12> kFormats{{{"plain", {1, 0}, nullptr},
                                           {"Q4_0", {32, 18}, decode_q4_0},
                                           {"Q4_1", {32, 20}, decode_q4_1},
                                           {"Q5_0", {32, 22}, decode_q5_0},
                                           {"Q5_1", {32, 24}, decode_q5_1},
                                           {"Q8_0", {32, 34}, decode_q8_0},
                                           {"Q2_K", {256, 84}, decode_q2_k},
                                           {"Q3_K", {256, 110}, decode_q3_k},
                                           {"Q4_K", {256, 144}, decode_q4_k},
                                           {"Q5_K", {256, 176}, decode_q5_k},
                                           {"Q6_K", {256, 210}, decode_q6_k},
                                           {"F8_E4M3", {1, 1}, nullptr}}};

// OCP's e4m3: no infinity; all bits but the sign's set is no number.
constexpr float fp8_value(unsigned bits) {
  const unsigned exponent = bits >> 3 & 15, mantissa = bits & 7;
  float magnitude = exponent == 0 ? static_cast<float>(mantissa) : static_cast<float>(8 + mantissa);
  for (unsigned i = 1; i < exponent; ++i) magnitude *= 2;
  magnitude *= 0x1p-9f;
  if ((bits & 0x7f) == 0x7f) magnitude = std::numeric_limits<float>::quiet_NaN();
  return bits & 0x80 ? -magnitude : magnitude;
}
constexpr auto kFp8Values = [] {
  std::array<float, 256> values{};
  for (unsigned bits = 0; bits < 256; ++bits) values[bits] = fp8_value(bits);
  return values;
}();

const Format& format(Encoding encoding) { return kFormats[static_cast<size_t>(encoding)]; }

// bf16's conversions of tensor/dtype.h once more, inline and without branches, so that the loops below
// vectorise: whole models go through them. fp16 was tried too and gained nothing.
float wide(BF16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

float wide(F16 value) { return to_float(value); }

BF16 narrow_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = (bits >> 16) | 0x40;
  return {static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded)};
}

template <class T>
void widen(std::span<const std::byte> in, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, in.data() + i * sizeof(T), sizeof(T));
    if constexpr (std::is_same_v<T, BF16> || std::is_same_v<T, F16>)
      out[i] = wide(value);
    else
      out[i] = static_cast<float>(value);
  }
}

void decode_plain(DType dtype, std::span<const std::byte> in, std::span<float> out) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out.data(), in.data(), out.size_bytes());
      return;
    case DType::kBF16:
      return widen<BF16>(in, out);
    case DType::kF16:
      return widen<F16>(in, out);
    case DType::kF64:
      return widen<double>(in, out);
    case DType::kI64:
      return widen<int64_t>(in, out);
    case DType::kI32:
      return widen<int32_t>(in, out);
    case DType::kI16:
      return widen<int16_t>(in, out);
    case DType::kU16:
      return widen<uint16_t>(in, out);
    case DType::kI8:
      return widen<int8_t>(in, out);
    case DType::kU8:
    case DType::kBool:
      return widen<uint8_t>(in, out);
  }
}

template <class T, class Round>
void narrow(std::span<const float> in, std::span<std::byte> out, Round round) {
  for (size_t i = 0; i < in.size(); ++i) {
    const T value = round(in[i]);
    std::memcpy(out.data() + i * sizeof(T), &value, sizeof(T));
  }
}
}  // namespace

BlockSize block_size(Encoding encoding, DType dtype) {
  return encoding == Encoding::kPlain ? BlockSize{1, static_cast<int64_t>(size_of(dtype))}
                                      : format(encoding).block;
}

std::string_view name(Encoding encoding) { return format(encoding).name; }

void decode_f32(Encoding encoding, DType dtype, std::span<const std::byte> blocks, int64_t begin,
                std::span<float> out) {
  if (out.empty()) return;
  const BlockSize block = block_size(encoding, dtype);
  const int64_t end = begin + static_cast<int64_t>(out.size());
  const int64_t held = static_cast<int64_t>(blocks.size()) / block.bytes * block.elements;
  FLAGSCALE_CHECK(begin >= 0 && end <= held);
  if (encoding == Encoding::kPlain)
    return decode_plain(dtype, blocks.subspan(static_cast<size_t>(begin * block.bytes)), out);
  if (encoding == Encoding::kFp8) {
    std::ranges::transform(blocks.subspan(static_cast<size_t>(begin), out.size()), out.begin(),
                           [](std::byte b) { return kFp8Values[static_cast<size_t>(b)]; });
    return;
  }
  std::array<float, 256> scratch;
  const auto* data = reinterpret_cast<const uint8_t*>(blocks.data());
  for (int64_t at = begin; at < end;) {
    const int64_t index = at / block.elements, first = at % block.elements;
    const int64_t count = std::min(block.elements - first, end - at);
    float* to = out.data() + (at - begin);
    format(encoding).decode(data + index * block.bytes, count == block.elements ? to : scratch.data());
    if (count != block.elements) std::copy_n(scratch.begin() + first, count, to);
    at += count;
  }
}

void encode_plain(std::span<const float> in, DType dtype, std::span<std::byte> out) {
  FLAGSCALE_CHECK(out.size() == in.size() * size_of(dtype));
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out.data(), in.data(), in.size_bytes());
      return;
    case DType::kF64:
      return narrow<double>(in, out, [](float x) { return static_cast<double>(x); });
    case DType::kBF16:
      return narrow<BF16>(in, out, narrow_bf16);
    case DType::kF16:
      for (const float x : in)
        if (std::isfinite(x) && std::abs(x) >= 65520.0F)
          fail(ErrorKind::kInvalidArgument, "{} does not fit into float16: choose bfloat16", x);
      return narrow<F16>(in, out, [](float x) { return to_f16(x); });
    default:
      fail(ErrorKind::kInvalidArgument, "cannot convert weights to {}: choose a floating type",
           flagscale::name(dtype));
  }
}

}  // namespace flagscale::io
