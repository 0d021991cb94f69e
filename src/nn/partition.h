#pragma once
// The points where activations change hands between ranks. Model code names them; on one rank each is the
// identity, or the plain operation. Tensor and sequence parallelism (Shoeybi et al., 2019; Korthikanti et
// al., 2022) and expert parallelism override them without touching a model. Shapes are those of one rank.

#include "autograd/context.h"
#include "nn/parameter.h"
#include "op/cross_entropy/cross_entropy.h"

namespace flagscale::nn {

// Rows for a mixture's experts, sorted by expert.
struct ExpertRows {
  Tensor rows;     // [tokens, top_k, hidden]
  Tensor counts;   // [experts] int32: rows of each
  Tensor choices;  // [tokens, top_k] int32: op::ExpertOrder's
};

class Partition {
 public:
  virtual ~Partition() = default;

  // Around a pair of products: enter before the column-sharded one (backward adds the ranks' gradients), exit
  // after the row-sharded one (forward adds their sums).
  virtual Tensor enter_column(Context&, const Tensor& x) { return x; }
  virtual Tensor exit_row(Context&, const Tensor& y) { return y; }
  // Where a product stands alone: its sharded columns are put together, or a whole input is cut to this
  // rank's columns.
  virtual Tensor exit_column(Context&, const Tensor& y) { return y; }
  virtual Tensor enter_row(Context&, const Tensor& x) { return x; }

  // The residual stream between them: each rank keeps its share of the tokens, and all of them come back.
  virtual Tensor scatter_tokens(Context&, const Tensor& x) { return x; }
  virtual Tensor gather_tokens(Context&, const Tensor& x) { return x; }

  // Rows of a vocabulary-sharded table: ids int32 [tokens] -> [tokens, hidden], whichever rank holds them.
  virtual Tensor look_up(Context& context, const Tensor& ids, const Parameter& table);
  // The loss of every token over a vocabulary-sharded head; see op::head_loss.
  virtual Tensor vocabulary_loss(Context& context, const Tensor& hidden, const Parameter& head,
                                 const Tensor& labels, const Tensor& mask, const float* grad_scale,
                                 const op::LearntTokens* learnt);

  // Rows go to the ranks that hold their experts (counts is then that of this rank's experts), and their
  // results back to where they came from, in the order in which they left.
  virtual ExpertRows dispatch_experts(Context&, const ExpertRows& sorted) { return sorted; }
  virtual Tensor combine_experts(Context&, const Tensor& results) { return results; }
};

}  // namespace flagscale::nn
