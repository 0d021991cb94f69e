#pragma once
// Low-rank additions to a product (Hu et al., "LoRA", 2021): y += scale B A x.
//
// Serving: each row of x names its adapter. Several adapters lie in one pair of tensors, a slot each, and a
// batch mixes them. A slot is a row, which may be strided, so that all that an adapter has in a model lies
// together. A row's result is bitwise the same whatever runs beside it: each sum is formed in an order that
// depends on the shapes alone. A slot whose B is zero adds zero. Projections of one product are one launch.
//
// Training: one adapter for all rows, A and B as matrices of their own, in any float type, with gradients.

#include <tuple>
#include <vector>

#include "autograd/context.h"
#include "op/dropout/dropout.h"

namespace flagscale::op {

constexpr int64_t kMaxLoraRank = 512;

// What a projection adds to its columns of y.
struct LoraAddition {
  In a;       // [slots, experts * rank * in] of x's type
  In b;       // [slots, experts * rank * out] of x's type: B transposed
  In ranks;   // [slots] int32: rows of a and b in use; 0: this projection has no addition
  In scales;  // [slots] fp32
  InOut y;    // [rows, out] of x's type, row-strided
};
constexpr int kMostLoraParts = 3;

struct LoraArgs {
  In x;                                // [rows, in] fp32, on a GPU bf16 too, row-strided
  In slots;                            // [rows] int32; negative: no adapter
  LoraAddition parts[kMostLoraParts];  // those that are defined, first
  int64_t experts = 1;  // matrices in a slot, one after another; then slots[row] is slot * experts + expert
  auto operands() {
    auto& [p, q, r] = parts;
    return std::tie(x, slots, p.a, p.b, p.ranks, p.scales, p.y, q.a, q.b, q.ranks, q.scales, q.y, r.a, r.b,
                    r.ranks, r.scales, r.y);
  }
};
inline constinit KernelSlot<LoraArgs> kLora{"lora"};

struct LoraSlots {
  Tensor a, b, ranks, scales, y;
};

// Adds to each part's y, in place. No gradient. Rows of experts: x [tokens, top_k, in], slots of
// expert_slots() and y [tokens, top_k, out]. slots' live count may be 0 where no row has an adapter.
void lora(Context& context, const Tensor& x, const Tensor& slots, const std::vector<LoraSlots>& parts,
          int64_t experts = 1);

// How a trained adapter adds.
struct LoraTraining {
  float scale = 1;             // alpha / rank
  float dropout = 0;           // of x, or
  bool dropout_after = false;  // of what is added
  uint64_t seed = 0, stream = 0;
  const DropoutRows* rows = nullptr;  // where dropout > 0
  bool on_host = false;               // products of adapted_linear.h may do it
};

// A projection's B, and its first column of y.
struct LoraTarget {
  Tensor b;
  int64_t first;
};

// y's columns [first, first + out) += scale B A x for each target, in place: x [rows, in], a [targets * rank,
// in] with the rows of each target's A one after another, each b [out, rank] and y [rows, at least first +
// out] of one type. y is the output of an op, whose own gradient stays as it is. Of the forward pass A x is
// kept, rank numbers a row and target; what dropout left is made anew in backward. Several targets have no
// dropout.
void train_lora(Context& context, const Tensor& x, const Tensor& a, const std::vector<LoraTarget>& targets,
                const LoraTraining& training, const Tensor& y);

// The same for rows sorted by expert, each expert with matrices of its own: x [tokens, top_k, in], counts
// [experts] int32, a [experts * targets * rank, in] expert after expert, each b [experts * out, rank], y
// [tokens, top_k, at least first + out]. choices: [tokens, top_k] int32, by which dropout knows a row
// wherever it lies (ExpertOrder's); may be undefined without.
void train_expert_lora(Context& context, const Tensor& x, const Tensor& counts, const Tensor& choices,
                       const Tensor& a, const std::vector<LoraTarget>& targets, const LoraTraining& training,
                       const Tensor& y);

}  // namespace flagscale::op
