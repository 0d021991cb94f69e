#pragma once
// Which rows a GPU's norm of whole rows takes (norm_rows_cuda.cuh), whatever it writes.

#include <cstdint>

namespace flagscale::op {

constexpr int kNormPack = 8, kNormSlice = 1024, kMostNormSlices = 16;  // numbers of a load; of a warp; warps

constexpr bool has_norm_rows(int64_t cols) {
  return cols % kNormPack == 0 && cols <= int64_t{kMostNormSlices} * kNormSlice;
}

}  // namespace flagscale::op
