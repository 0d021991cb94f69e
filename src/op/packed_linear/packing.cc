#include "op/packed_linear/packing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>

#include "base/check.h"
#include "base/error.h"
#include "op/packed_linear/packing_blocks.h"

namespace flagscale::op {

namespace {
constexpr int64_t kLow = 512, kHigh1 = 128, kHigh2 = 256, kHalves = 2 * kPanel;
constexpr std::array<PackingInfo, kNumPackings> kInfos{{
    {"float32", 1, 4 * kPanel, 0, 0, 0},
    {"bfloat16", 2, 4 * kPanel, 0, 0, 4},
    {"float16", 1, 2 * kPanel, 0, 0, 2},
    {"int8", kGroup, 1024, 4 * kPanel, 8, 0},
    {"int4", 128, kHalves + 4 * kLow, 0, 4, 0},
    {"Q8_0", kGroup, kHalves + 1024, 0, 8, 34},
    {"Q4_0", kGroup, kHalves + kLow, 0, 4, 18},
    {"Q4_1", kGroup, 2 * kHalves + kLow, 0, 4, 20},
    {"Q5_0", kGroup, kHalves + kHigh1 + kLow, 0, 5, 22},
    {"Q5_1", kGroup, 2 * kHalves + kHigh1 + kLow, 0, 5, 24},
    {"Q4_K", 256, 2 * kHalves + 16 * kPanel + 8 * kLow, 0, 4, 144},
    {"Q5_K", 256, 2 * kHalves + 16 * kPanel + 8 * (kHigh1 + kLow), 0, 5, 176},
    {"Q6_K", 256, kHalves + 16 * kPanel + 8 * (kHigh2 + kLow), 0, 6, 210},
}};

int64_t blocks_of(const PackingInfo& format, int64_t in) { return (in + format.block - 1) / format.block; }

// bf16 elements lie in pairs along k: [in / 2][kPanel][2].
template <class To>
void put_elements(To* panel, int64_t n, int64_t width, int64_t in, auto element) {
  for (int64_t k = 0; k < in; ++k) panel[(k / width * kPanel + n) * width + k % width] = element(k);
}

template <class T>
T stored_at(std::span<const std::byte> stored, int64_t k) {
  T value;
  std::memcpy(&value, stored.data() + static_cast<size_t>(k) * sizeof(T), sizeof(T));
  return value;
}

std::byte* panel_of(const Tensor& packed, Packing packing, int64_t row, int64_t in) {
  FLAGSCALE_CHECK(row >= 0 && row / kPanel < packed.dim(0) && packed.dim(1) == panel_bytes(packing, in));
  return packed.data<std::byte>() + row / kPanel * packed.dim(1);
}

}  // namespace

const PackingInfo& info(Packing packing) { return kInfos[static_cast<size_t>(packing)]; }

Packing parse_packing(std::string_view name) {
  std::string known;
  for (size_t i = 0; i < kInfos.size(); ++i) {
    if (name == kInfos[i].name) return static_cast<Packing>(i);
    known += std::string(i ? ", " : "") + kInfos[i].name;
  }
  fail(ErrorKind::kInvalidArgument, "'{}' is no format of packed weights; there are {}", name, known);
}

int64_t panels_of(int64_t out) { return (out + kPanel - 1) / kPanel; }

int64_t panel_bytes(Packing packing, int64_t in) {
  const PackingInfo& format = info(packing);
  return format.head_bytes + blocks_of(format, in) * format.block_bytes;
}

Shape packed_shape(Packing packing, int64_t out, int64_t in) {
  return {panels_of(out), panel_bytes(packing, in)};
}

void pack_row(const Tensor& packed, Packing packing, int64_t row, std::span<const float> values) {
  const auto in = static_cast<int64_t>(values.size());
  std::byte* const panel = panel_of(packed, packing, row, in);
  const int64_t n = row % kPanel;
  const auto at = [&](int64_t k) { return values[static_cast<size_t>(k)]; };
  switch (packing) {
    case Packing::kF32:
      return put_elements(reinterpret_cast<float*>(panel), n, 1, in, at);
    case Packing::kBF16:
      return put_elements(reinterpret_cast<BF16*>(panel), n, 2, in,
                          [&](int64_t k) { return to_bf16(at(k)); });
    case Packing::kF16:
      return put_elements(reinterpret_cast<F16*>(panel), n, 1, in, [&](int64_t k) { return to_f16(at(k)); });
    case Packing::kInt8:
      return quantise_row8(panel, n, values);
    case Packing::kInt4:
    case Packing::kQ4_0:
      return quantise_row4(panel, n, info(packing), values);
    default:
      fail(ErrorKind::kUnsupported, "weights are not quantised to {} here: it comes from GGUF files",
           info(packing).name);
  }
}

void pack_row(const Tensor& packed, Packing packing, int64_t row, int64_t in,
              std::span<const std::byte> stored) {
  const PackingInfo& format = info(packing);
  std::byte* const panel = panel_of(packed, packing, row, in);
  const int64_t n = row % kPanel;
  if (packing == Packing::kBF16 || packing == Packing::kF16) {
    FLAGSCALE_CHECK(stored.size() == static_cast<size_t>(in) * 2);
    if (packing == Packing::kF16)
      return put_elements(reinterpret_cast<F16*>(panel), n, 1, in,
                          [&](int64_t k) { return stored_at<F16>(stored, k); });
    return put_elements(reinterpret_cast<BF16*>(panel), n, 2, in,
                        [&](int64_t k) { return stored_at<BF16>(stored, k); });
  }
  FLAGSCALE_CHECK(format.source_bytes > 0 && in % format.block == 0 &&
                  stored.size() == static_cast<size_t>(in / format.block * format.source_bytes));
  const auto* source = reinterpret_cast<const uint8_t*>(stored.data());
  for (int64_t b = 0; b < in / format.block; ++b)
    pack_block(packing, source + b * format.source_bytes, panel + b * format.block_bytes, n);
}

}  // namespace flagscale::op
