#pragma once
// What adapters add to a model's linears (op/lora). A model declares nothing for them: whoever runs it gives
// each of its linears a Lora before it is traced. Serving puts tensors of many slots there (engine/adapters),
// training one slot whose A and B are parameters.

#include <cstdint>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace flagscale::nn {

// One projection as Hugging Face names it: all rows of a linear, or those of a part of a fused one.
struct LoraPart {
  std::string module;        // "model.layers.0.self_attn.q_proj"
  int64_t first = 0;         // of its rows in the linear
  int64_t rows = 0, in = 0;  // its shape
  Tensor a, b;               // [slots, rank * in], [slots, rank * rows]: B transposed
  Tensor ranks, scales;      // [slots]
};

struct Lora {
  Tensor slots;  // of each row of x; negative: none
  std::vector<LoraPart> parts;
};

}  // namespace flagscale::nn
