#pragma once
// AdamW whose moments are held in 8 bits, as bitsandbytes' AdamW8bit: blocks of 256 elements, each with the
// largest magnitude in fp32 and a code an element (dynamic_map.h).
//
//   both moments are decoded, moved by the gradient as AdamW's, used, and encoded again

#include <tuple>

#include "op/adamw/adamw.h"

namespace flagscale::op {

constexpr int64_t kStateBlock = 256;
constexpr int64_t state_blocks(int64_t elements) { return (elements + kStateBlock - 1) / kStateBlock; }

struct AdamW8bitArgs {
  InOut param;             // [n] fp32
  InOut m, v;              // [n] uint8; zeros at the start
  InOut m_scale, v_scale;  // [state_blocks(n)] fp32; zeros at the start
  In grad;                 // [n] fp32
  In norm;                 // [1] fp32; not finite: nothing is updated
  Out copy;                // [n] bf16 working weights, or undefined
  In step;                 // a StepScalars, as bytes
  float beta1, beta2, eps;
  bool decay;  // false for biases and norm weights
  auto operands() { return std::tie(param, m, v, m_scale, v_scale, grad, norm, copy, step); }
};
inline constinit KernelSlot<AdamW8bitArgs> kAdamW8bit{"adamw8bit"};

}  // namespace flagscale::op
