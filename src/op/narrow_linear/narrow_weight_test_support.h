#pragma once
// Random weights of eight or four bits an element, and what they stand for.

#include "op/narrow_linear/narrow_weight.h"
#include "op/op_testing.h"

namespace flagscale::op::testing {

struct NarrowedWeight {
  NarrowWeight narrow;
  Tensor wide;  // what it stands for
};

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
    narrow_row(format, {values.data<float>() + i * k, static_cast<size_t>(k)}, i % kPanelRows, panel, scales);
    widen_row(format, panel, i % kPanelRows, scales,
              {both.wide.data<BF16>() + i * k, static_cast<size_t>(k)});
  }
  return both;
}

inline constexpr Narrow kOfPanels[] = {Narrow::kFp8, Narrow::kInt8, Narrow::kInt4, Narrow::kInt4By32};

}  // namespace flagscale::op::testing
