#pragma once
// The products of a mixture's experts with rows sorted by expert: nn/linear.h for a weight of all experts.

#include "autograd/context.h"
#include "nn/lora.h"
#include "nn/parameter.h"
#include "nn/partition.h"

namespace flagscale::nn {

class ExpertLinear {
 public:
  // weight [experts * out, in]
  explicit ExpertLinear(Parameter& weight) : weight_(&weight) {}
  // slots: of each row, where adapters are served (op/lora); else undefined.
  //   at.rows [tokens, top_k, in] -> [tokens, top_k, out]
  Tensor operator()(Context& context, const ExpertRows& at, const Tensor& slots) const;
  const Parameter& weight() const { return *weight_; }

  // Its projections, of all experts each, without memory.
  std::vector<LoraPart> lora_parts() const;
  // lora: outlives this; null: none.
  void adapt(const Lora* lora) { lora_ = lora; }
  const Lora* lora() const { return lora_; }

 private:
  Tensor product(Context& context, const ExpertRows& at) const;

  Parameter* weight_;
  const Lora* lora_ = nullptr;
};

}  // namespace flagscale::nn
