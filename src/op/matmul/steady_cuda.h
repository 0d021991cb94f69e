#pragma once
// Products of serving on a GPU: y = x W^T + bias whose rows have the same bits however many there are.

#include "op/matmul/matmul.h"

namespace flagscale::op {

// A sum is cut along k into kSlices slices of whole steps of kStep.
constexpr int kSlices = 8, kStep = 64;

// MatmulArgs::steady: out = a b^T + bias, fp32 or bf16. Launches it.
void multiply_steadily(const MatmulArgs& args);

// The same sums by Hopper's warpgroups, for more than 16 rows of bf16 that begin at multiples of 16 bytes.
// False, and nothing is launched, on another GPU.
bool multiply_by_warpgroups(const MatmulArgs& args);

// y = x W^T + bias of e4m3 numbers with scales, by Hopper's warpgroups: as the bf16 product, but a slice has
// kFp8Slice numbers, and its sum is multiplied by x's scale of it before it is added, the total by W's.
struct Fp8Product {
  const void *x, *w;  // rows of `pitch` numbers, a multiple of 16, zeros at their end; of x there may be read
                      // more rows, to a multiple of kFp8Read
  int64_t pitch;
  const float* x_scales;  // [m, slices]
  TensorView w_scales, bias, y;
};
constexpr int kFp8Step = 2 * kStep, kFp8Slice = 8 * kFp8Step;  // numbers
constexpr int kFp8Read = 256;
void multiply_fp8_by_warpgroups(const Fp8Product& product);

}  // namespace flagscale::op
