#pragma once
// y = x W^T + b over whichever copy of the weight there is: dense (training), packed (serving on a CPU),
// dense or narrow (on a GPU), or packed and unpacked some rows at a time (a frozen base in training); then
// what adapters add.

#include <optional>

#include "autograd/context.h"
#include "nn/lora.h"
#include "nn/parameter.h"
#include "op/fp8_linear/fp8_rows.h"

namespace flagscale::nn {

class Linear {
 public:
  // bias null: none.
  Linear(Parameter& weight, Parameter* bias) : weight_(&weight), bias_(bias) {}
  // out: the type of y where it shall differ from x's (fp32 logits of a bf16 model). largest: of x, where it
  // is known, of a linear that measures x.
  Tensor operator()(Context& context, const Tensor& x, std::optional<DType> out = {},
                    const Tensor& largest = {}) const;
  bool measures() const { return weight_->fp8.measures(); }
  // Of rows that are rounded already, of a linear that takes them: there is no adapter.
  Tensor operator()(Context& context, const op::Fp8Rows& x) const;
  bool takes_rounded() const;
  Tensor of_gated(Context& context, const Tensor& gate, const Tensor& up) const;  // of silu(gate) up
  const Parameter& weight() const { return *weight_; }
  Parameter& weight() { return *weight_; }

  // Its projections by name, without memory.
  std::vector<LoraPart> lora_parts() const;
  // lora: outlives the linear; null: none.
  void adapt(const Lora* lora) { lora_ = lora; }

 private:
  Tensor product(Context& context, const Tensor& x, DType out, const Tensor& largest) const;
  bool is_one_product(const Tensor& x, DType out) const;

  Parameter* weight_;
  Parameter* bias_;
  const Lora* lora_ = nullptr;
};

}  // namespace flagscale::nn
