#pragma once
// What adapters add to a model's linears (op/lora). A model declares nothing for them: whoever runs it gives
// each of its linears a Lora before it is traced. Serving puts tensors of many slots there (engine/adapters),
// training matrices that are parameters (train/adapter).

#include <cstdint>
#include <string>
#include <vector>

#include "op/lora/lora.h"
#include "tensor/tensor.h"

namespace flagscale::nn {

// One projection as Hugging Face names it: all rows of a linear, or those of a part of a fused one.
struct LoraPart {
  std::string module;        // "model.layers.0.self_attn.q_proj"
  int64_t first = 0;         // of its rows in the linear
  int64_t rows = 0, in = 0;  // its shape
  Tensor a, b;               // serving: [slots, rank * in], [slots, rank * rows], B transposed;
                             // training: [rank, in], [rows, rank]
  Tensor ranks, scales;      // [slots]; serving
  op::LoraTraining training{};
};

struct Lora {
  Tensor slots;  // of each row of x; negative: none. Undefined: training
  std::vector<LoraPart> parts;
};

}  // namespace flagscale::nn
