#pragma once
// Products of few rows on a GPU (Hopper), with the bits of op/matmul's product of e4m3 numbers.
#include "op/fp8_linear/fp8_linear.h"

namespace flagscale::op {

// Bytes of a row of W.
inline int64_t pitch_of(const Fp8LinearArgs& args) { return args.data.cols() / kPanelRows; }

// Whether multiply_few() takes them.
bool are_few(const Fp8LinearArgs& args);

// rounded, scales: x's numbers and scales as Fp8Rows has them; null: x is rounded as it comes, in rows on
// boundaries of 16 bytes. Launches it.
void multiply_few(const Fp8LinearArgs& args, const uint8_t* rounded, const float* scales);

}  // namespace flagscale::op
