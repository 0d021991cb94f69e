#pragma once
// Products that a low-rank adapter adds to a result of bf16: few numbers a sum, so bound by memory.

#include "op/matmul/matmul.h"

namespace flagscale::op {

// sum += a op(b), bf16, with at most kThin numbers a sum: one chain of fp32 that begins at the sum itself.
// False, and nothing is launched, where sizes or places do not fit.
constexpr int64_t kThin = 64;
bool add_thin_product(const MatmulArgs& args);

}  // namespace flagscale::op
