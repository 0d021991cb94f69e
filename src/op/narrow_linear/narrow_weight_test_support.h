#pragma once
// Random weights of eight or four bits an element, and what they stand for.

#include "op/narrow_linear/narrow_weight.h"
#include "op/op_testing.h"

namespace flagscale::op::testing {

struct NarrowedWeight {
  NarrowWeight narrow;
  Tensor wide;  // what it stands for
};

// Some scale for each block of 128 rows and columns.
inline void place_row_of_blocks(std::span<const float> values, int64_t row, std::span<uint8_t> panel,
                                uint16_t* scales) {
  std::vector<float> of_blocks;
  std::vector<uint8_t> q;
  for (size_t k = 0; k < values.size(); ++k) {
    if (k % 128 == 0)
      of_blocks.push_back(0.011f + 0.0037f * static_cast<float>((k / 128 * 5 + row / 128 * 3) % 7));
    q.push_back(to_e4m3(values[k] / of_blocks.back()));
  }
  place_fp8_row(q, of_blocks, row % kPanelRows, panel, scales);
}

inline NarrowedWeight narrowed_weight(Narrow format, int64_t n, int64_t k) {
  const Tensor values = random_tensor({n, k}, 2, DType::kF32);
  const Shape shape = narrow_shape(format, n, k);
  NarrowedWeight both{{format, make_tensor(allocator(), shape, DType::kU8),
                       make_tensor(allocator(), narrow_scales(format, n, k), scale_type(format)), k, n},
                      make_tensor(allocator(), {n, k}, DType::kBF16)};
  std::fill_n(both.narrow.data.data<uint8_t>(), shape.numel(), uint8_t{0});
  std::fill_n(both.narrow.scales.data<uint8_t>(), both.narrow.scales.bytes(), uint8_t{0});
  for (int64_t i = 0; i < n; ++i) {
    const std::span<uint8_t> panel(both.narrow.data.data<uint8_t>() + i / kPanelRows * shape[1],
                                   static_cast<size_t>(shape[1]));
    uint16_t* scales = both.narrow.scales.data<uint16_t>() + i / kPanelRows * scales_of_panel(format, k);
    const std::span<const float> row(values.data<float>() + i * k, static_cast<size_t>(k));
    if (format == Narrow::kFp8Blocks)
      place_row_of_blocks(row, i, panel, scales);
    else
      narrow_row(format, row, i % kPanelRows, panel, scales);
    widen_row(format, panel, i % kPanelRows, scales,
              {both.wide.data<BF16>() + i * k, static_cast<size_t>(k)});
  }
  return both;
}

inline constexpr Narrow kOfPanels[] = {Narrow::kFp8, Narrow::kInt8, Narrow::kInt4, Narrow::kInt4By32};
inline constexpr Narrow kMultiplied[] = {Narrow::kFp8, Narrow::kInt8, Narrow::kInt4, Narrow::kInt4By32,
                                         Narrow::kFp8Blocks};

}  // namespace flagscale::op::testing
