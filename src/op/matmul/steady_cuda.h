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

}  // namespace flagscale::op
