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
  Tensor a, b;               // serving: [slots, rank * in], [slots, rank * rows], B transposed; training:
                             // [rank, in], but for parts that share Lora::a, and [rows, rank]
  Tensor ranks, scales;      // [slots]; serving
  op::LoraTraining training{};
  int64_t experts = 0;  // of a mixture: a and b have those of each, one after another, in every slot; 0: none

  // Of an expert, where `module` is of all: "….experts.*.up_proj" -> "….experts.3.up_proj".
  std::string module_of(int64_t expert) const;
};

// Serving: as op::lora_down() and lora_up() take them.
std::vector<op::LoraSlots> lora_slots(const std::vector<LoraPart>& parts);

// In training the parts' A lie one after another in one matrix where nothing tells their inputs apart.
struct Lora {
  Tensor slots;  // of each token; negative: none. Undefined: training
  std::vector<LoraPart> parts;
  Tensor a{};  // [parts * rank, in], of experts one after another; undefined: each part has its own

  // Training: the parts' additions, as many as share an A. Calls add(a, targets, training).
  template <class Add>
  void for_targets(Add&& add) const;
};

template <class Add>
void Lora::for_targets(Add&& add) const {
  std::vector<op::LoraTarget> targets;
  for (const LoraPart& part : parts) {
    targets.push_back({part.b, part.first});
    if (a.defined()) continue;
    add(part.a, targets, part.training);
    targets.clear();
  }
  if (!targets.empty()) add(a, targets, parts[0].training);
}

}  // namespace flagscale::nn
