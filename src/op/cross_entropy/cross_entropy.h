#pragma once
// Next-token loss. For each row: loss = logsumexp(logits) - logits[label], and where a gradient is wanted
//   dlogits = (softmax(logits) - onehot(label)) * mask * *grad_scale.
// Rows with mask 0 have loss 0 and gradient 0; their labels are not read.

#include <tuple>
#include <vector>

#include "autograd/context.h"
#include "op/packed_linear/packed_linear.h"

namespace flagscale::op {

struct CrossEntropyArgs {
  InOut
      logits;  // [rows, vocab] fp32 (fp64); becomes dlogits where dlogits is undefined and grad_scale is set
  In labels, mask;  // [rows] int32, [rows] fp32
  Out loss;         // [rows] fp32 (fp64), already times mask
  Out dlogits;      // [rows, vocab] in a narrower dtype, or undefined; its rows may begin where logits' do
  const float* grad_scale;  // null: no gradient
  In tokens{};  // [rows] int32: which of labels, mask and loss a row of logits is of; undefined: the same
  auto operands() { return std::tie(logits, labels, mask, loss, dlogits, tokens); }
};
inline constinit KernelSlot<CrossEntropyArgs> kCrossEntropy{"cross_entropy"};

struct PutRowsArgs {
  In x, tokens;  // [rows, n]; [rows] int32
  InOut y;       // [.., n] of x's type: row tokens[i] becomes x's row i
  auto operands() { return std::tie(x, tokens, y); }
};
inline constinit KernelSlot<PutRowsArgs> kPutRows{"put_rows"};

// The tokens whose mask is not 0, in order, chosen before the kernels run: how many there are may change each
// time, and nothing is traced again. Outlives what is traced with it.
class LearntTokens {
 public:
  // memory: int32 [tokens]; vocab: rows of the head. few_counts: the last chunk that has any is filled up
  // with masked tokens to one of about eight sizes, for products that are chosen by their size.
  LearntTokens(Tensor memory, int64_t vocab, bool few_counts = false);
  LearntTokens(const LearntTokens&) = delete;

  // What memory has to hold for a mask: all tokens, those that are learnt first. Returns how many of them the
  // head takes.
  int64_t order(const float* mask, int32_t* tokens) const;
  // Kernels that are launched from now on take so many.
  void take(int64_t rows);
  // Both, with memory in the host's reach.
  void choose(const float* mask) { take(order(mask, memory_.data<int32_t>())); }

  // Of the chunk of head_loss() that begins at row `first`; its live count with it.
  Tensor chunk(int64_t first, int64_t rows) const;

 private:
  Tensor memory_;
  int64_t chunk_, piece_;
  std::vector<int64_t> live_;  // of each chunk
};

// The loss of every token through the output head, fused with its gradient: logits exist for a chunk of rows
// at a time, so memory does not grow with tokens x vocabulary. With a tape, the gradients of hidden and
// weight are formed here.
// learnt: logits are formed for these tokens alone; null: for all (the same result, masked ones for nothing).
//   hidden [tokens, n], weight [vocab, n], labels int32 [tokens], mask fp32 [tokens] -> [tokens] fp32 (fp64)
Tensor head_loss(Context& context, const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                 const Tensor& mask, const float* grad_scale, const LearntTokens* learnt = nullptr);
// Through a frozen head that stays packed.
Tensor head_loss(Context& context, const Tensor& hidden, const PackedWeight& weight, const Tensor& labels,
                 const Tensor& mask, const float* grad_scale, const LearntTokens* learnt = nullptr);

// Rows of logits that head_loss holds at a time.
int64_t head_loss_rows(int64_t tokens, int64_t vocab);

}  // namespace flagscale::op
