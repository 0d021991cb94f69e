#include "op/packed_linear/packing_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace flagscale::op {

namespace {

// The 32 elements of a group, to output n. `group` is where the group's bits begin.
void put_group(int bits, std::byte* group, int64_t n, const uint8_t* q) {
  auto* to = reinterpret_cast<uint8_t*>(group) + n * 4;
  if (bits == 8) {
    for (int s = 0; s < 8; ++s) std::memcpy(to + s * 4 * kPanel, q + 4 * s, 4);
    return;
  }
  if (bits == 5) {
    for (int j = 0; j < 4; ++j) {
      unsigned byte = 0;
      for (int s = 0; s < 8; ++s) byte |= (q[4 * s + j] >> 4 & 1u) << s;
      to[j] = static_cast<uint8_t>(byte);
    }
    to += 4 * kPanel;
  }
  if (bits == 6) {
    for (int line = 0; line < 2; ++line, to += 4 * kPanel)
      for (int j = 0; j < 4; ++j) {
        unsigned byte = 0;
        for (int s = 0; s < 4; ++s) byte |= (q[16 * line + 4 * s + j] >> 4 & 3u) << (2 * s);
        to[j] = static_cast<uint8_t>(byte);
      }
  }
  for (int s = 0; s < 4; ++s)
    for (int j = 0; j < 4; ++j)
      to[s * 4 * kPanel + j] = static_cast<uint8_t>((q[4 * s + j] & 15) | (q[16 + 4 * s + j] & 15) << 4);
}

// The two bytes of a half at `from`, as entry n of the line of halves at `to`.
void put_half(std::byte* to, int64_t n, const uint8_t* from) { std::memcpy(to + 2 * n, from, 2); }

void put_byte(std::byte* to, int64_t n, unsigned value) { to[n] = static_cast<std::byte>(value); }

// Blocks of 32: half d, half m if kMin, 32 high bits if 5, nibbles (low: elements 0-15) or signed bytes.
void pack_small(const uint8_t* b, std::byte* block, int64_t n, int bits, bool min) {
  uint8_t q[32];
  put_half(block, n, b), b += 2, block += 2 * kPanel;
  if (min) put_half(block, n, b), b += 2, block += 2 * kPanel;
  uint32_t high = 0;
  if (bits == 5) std::memcpy(&high, b, 4), b += 4;
  for (unsigned i = 0; i < 32; ++i) {
    if (bits == 8)
      q[i] = b[i] ^ 0x80;
    else
      q[i] = static_cast<uint8_t>((i < 16 ? b[i] & 15u : b[i - 16] >> 4) | (high >> i & 1u) << 4);
  }
  put_group(bits, block, n, q);
}

// Q4_K, Q5_K: half d, half dmin, eight 6-bit scales and minima in 12 bytes, 32 bytes of fifth bits, nibbles.
void pack_k45(const uint8_t* b, std::byte* block, int64_t n, int bits) {
  put_half(block, n, b), put_half(block + 2 * kPanel, n, b + 2);
  const uint8_t *s = b + 4, *high = b + 16, *low = bits == 5 ? b + 48 : b + 16;
  std::byte *scales = block + 4 * kPanel, *mins = scales + 8 * kPanel, *group = mins + 8 * kPanel;
  for (int j = 0; j < 8; ++j, group += bits == 5 ? 640 : 512) {
    put_byte(scales + j * kPanel, n, j < 4 ? s[j] & 63u : (s[j + 4] & 15u) | (s[j - 4] >> 2 & 48u));
    put_byte(mins + j * kPanel, n, j < 4 ? s[j + 4] & 63u : (s[j + 4] >> 4) | (s[j] >> 2 & 48u));
    uint8_t q[32];
    for (int i = 0; i < 32; ++i) {
      const unsigned fifth = bits == 5 ? high[i] >> j & 1u : 0u;
      q[i] = static_cast<uint8_t>((low[j / 2 * 32 + i] >> (j % 2 * 4) & 15u) | fifth << 4);
    }
    put_group(bits, group, n, q);
  }
}

// Q6_K: 128 bytes of low nibbles, 64 of high pairs, 16 signed scales, half d.
void pack_k6(const uint8_t* b, std::byte* block, int64_t n) {
  put_half(block, n, b + 208);
  for (int j = 0; j < 16; ++j) put_byte(block + 2 * kPanel + j * kPanel, n, b[192 + j]);
  std::byte* group = block + 18 * kPanel;
  for (int g = 0; g < 8; ++g, group += 768) {
    uint8_t q[32];
    const int half = g / 4, quarter = g % 4;  // of 128 elements
    for (int i = 0; i < 32; ++i) {
      const unsigned low = b[half * 64 + quarter % 2 * 32 + i] >> (quarter / 2 * 4) & 15u;
      q[i] = static_cast<uint8_t>(low | (b[128 + half * 32 + i] >> (2 * quarter) & 3u) << 4);
    }
    put_group(6, group, n, q);
  }
}

// 16 values around 8: the scale that takes the largest magnitude to -8, then the best one for the values it
// gives.
float best_scale4(const float* x, int64_t count, uint8_t* q) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i)
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  const float first = largest / -8, inverse = std::isnormal(first) ? 1 / first : 0;
  float xq = 0, qq = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float r = std::clamp(std::nearbyint(x[i] * inverse), -8.f, 7.f);
    xq += x[i] * r, qq += r * r;
    q[i] = static_cast<uint8_t>(static_cast<int>(r) + 8);
  }
  return qq > 0 ? xq / qq : 0;
}

}  // namespace

void pack_block(Packing packing, const uint8_t* source, std::byte* block, int64_t n) {
  switch (packing) {
    case Packing::kQ8_0:
      return pack_small(source, block, n, 8, false);
    case Packing::kQ4_0:
      return pack_small(source, block, n, 4, false);
    case Packing::kQ4_1:
      return pack_small(source, block, n, 4, true);
    case Packing::kQ5_0:
      return pack_small(source, block, n, 5, false);
    case Packing::kQ5_1:
      return pack_small(source, block, n, 5, true);
    case Packing::kQ4_K:
      return pack_k45(source, block, n, 4);
    case Packing::kQ5_K:
      return pack_k45(source, block, n, 5);
    case Packing::kQ6_K:
      return pack_k6(source, block, n);
    default:
      FLAGSCALE_CHECK(false);
  }
}

void quantise_row8(std::byte* panel, int64_t n, std::span<const float> values) {
  float largest = 0;
  for (const float x : values) largest = std::max(largest, std::fabs(x));
  const float scale = largest / 127, inverse = scale > 0 ? 1 / scale : 0;
  std::memcpy(panel + n * 4, &scale, 4);
  std::byte* group = panel + 4 * kPanel;
  for (size_t k = 0; k < values.size(); k += kGroup, group += 1024) {
    uint8_t q[kGroup];
    for (size_t i = 0; i < kGroup; ++i) {
      const float x = k + i < values.size() ? values[k + i] : 0;
      q[i] = static_cast<uint8_t>(static_cast<int>(std::clamp(std::nearbyint(x * inverse), -127.f, 127.f)) +
                                  128);
    }
    put_group(8, group, n, q);
  }
}

F16 quantise_group4(std::span<const float> values, uint8_t* q) {
  return to_f16(best_scale4(values.data(), std::ssize(values), q));
}

void quantise_row4(std::byte* panel, int64_t n, const PackingInfo& format, std::span<const float> values) {
  const auto in = static_cast<int64_t>(values.size());
  uint8_t q[128];
  for (int64_t k = 0; k < in; k += format.block, panel += format.block_bytes) {
    const int64_t count = std::min(format.block, in - k);
    const F16 scale = quantise_group4(values.subspan(static_cast<size_t>(k), static_cast<size_t>(count)), q);
    std::fill(q + count, q + format.block, uint8_t{8});
    std::memcpy(panel + 2 * n, &scale, 2);
    for (int64_t g = 0; g < format.block / kGroup; ++g)
      put_group(4, panel + 2 * kPanel + g * 512, n, q + g * kGroup);
  }
}

}  // namespace flagscale::op
