#pragma once
// Training with products of fp8 numbers (op/fp8_product).

#include <cstdint>

#include "op/fp8_product/fp8_product.h"

namespace flagscale::train {

// Those of the layers' projections, but for so many layers at each end. Embedding, head, norms and attention
// stay in bf16, and gradients of weights, moments and master weights in fp32.
struct Fp8Spec {
  op::Fp8Training training;
  int64_t first_in_bf16 = 0, last_in_bf16 = 0;
};

}  // namespace flagscale::train
