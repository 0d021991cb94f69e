#pragma once
// Next-token loss. For each row: loss = logsumexp(logits) - logits[label], and where a gradient is wanted
//   dlogits = (softmax(logits) - onehot(label)) * mask * *grad_scale.
// Rows with mask 0 have loss 0 and gradient 0; their labels are not read.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

struct CrossEntropyArgs {
  InOut
      logits;  // [rows, vocab] fp32 (fp64); becomes dlogits where dlogits is undefined and grad_scale is set
  In labels, mask;  // [rows] int32, [rows] fp32
  Out loss;         // [rows] fp32 (fp64), already times mask
  Out dlogits;      // [rows, vocab] in a narrower dtype, or undefined; its rows may begin where logits' do
  const float* grad_scale;  // null: no gradient
  auto operands() { return std::tie(logits, labels, mask, loss, dlogits); }
};
inline constinit KernelSlot<CrossEntropyArgs> kCrossEntropy{"cross_entropy"};

// The loss of every token through the output head, fused with its gradient: logits exist for a chunk of rows
// at a time, so memory does not grow with tokens x vocabulary. With a tape, the gradients of hidden and
// weight are formed here.
//   hidden [tokens, n], weight [vocab, n], labels int32 [tokens], mask fp32 [tokens] -> [tokens] fp32 (fp64)
Tensor head_loss(Context& context, const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                 const Tensor& mask, const float* grad_scale);

// Rows of logits that head_loss holds at a time.
int64_t head_loss_rows(int64_t tokens, int64_t vocab);

}  // namespace flagscale::op
