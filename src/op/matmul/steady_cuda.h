#pragma once
// Products of serving on a GPU: y = x W^T + bias whose rows have the same bits however many there are.

#include "op/matmul/matmul.h"

namespace flagscale::op {

// MatmulArgs::steady: out = a b^T + bias, fp32 or bf16. Launches it.
void multiply_steadily(const MatmulArgs& args);

}  // namespace flagscale::op
