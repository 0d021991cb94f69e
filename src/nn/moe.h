#pragma once
// A mixture of experts in an Mlp's place (Shazeer et al., 2017; Jiang et al., "Mixtral of Experts", 2024):
// each token goes to top_k of the experts, and to the shared ones where a model has them. The number of rows
// is always tokens * top_k, whatever the routing: one plan serves every batch, and nothing is dropped or
// padded.

#include <optional>

#include "nn/expert_linear.h"
#include "nn/mlp.h"
#include "op/expert_rows/expert_rows.h"
#include "op/router/router.h"

namespace flagscale::nn {

class Moe {
 public:
  struct Weights {
    Parameter* router;           // [experts, hidden]
    ExpertLinear gate_up, down;  // [experts * 2 size, hidden], [experts * hidden, size]: expert after expert
    std::optional<Mlp> shared;
    Parameter* shared_gate = nullptr;  // [1, hidden]: the shared experts' result times its sigmoid
  };
  // index: which of the model's mixtures this is: its row of RouterLosses::statistics.
  Moe(Weights weights, int64_t experts, const op::RouterSpec& router, int index)
      : weights_(std::move(weights)), experts_(experts), router_(router), index_(index) {}

  // losses: null: none.
  Tensor operator()(Context& context, Partition& partition, const Tensor& x,
                    const op::RouterLosses* losses) const;

  // Those that adapters may add to, beside the shared experts'.
  std::optional<Mlp>& shared() { return weights_.shared; }
  std::vector<ExpertLinear*> linears() { return {&weights_.gate_up, &weights_.down}; }

 private:
  Tensor run_experts(Context& context, const ExpertRows& at, const Tensor& slots) const;
  Tensor slots_of_rows(Context& context, const op::ExpertOrder& order) const;

  Weights weights_;
  int64_t experts_;
  op::RouterSpec router_;
  int index_;
};

}  // namespace flagscale::nn
