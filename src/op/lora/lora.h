#pragma once
// Low-rank additions to a product (Hu et al., "LoRA", 2021): y += scale B A x.
//
// Serving: each row of x names its adapter. Several adapters lie in one pair of tensors, a slot each, and a
// batch mixes them. A slot is a row, which may be strided, so that all that an adapter has in a model lies
// together. A row's result is bitwise the same whatever runs beside it: each sum is formed in an order that
// depends on the shapes alone. A slot whose B is zero adds zero.
//
// Training: one adapter for all rows, A and B as matrices of their own, in any float type, with gradients.

#include <tuple>
#include <vector>

#include "autograd/context.h"
#include "op/dropout/dropout.h"

namespace flagscale::op {

constexpr int64_t kMaxLoraRank = 512;

constexpr int kMostLoraParts = 3;  // q, k and v of a fused product

// h = A x of each row's adapter, for all projections of a product; before the product, which need not wait.
struct LoraDownPart {
  In a;      // [slots, experts * rank * in] of x's type
  In ranks;  // [slots] int32: rows of a in use; 0: this projection has no addition
};
struct LoraDownArgs {
  In x;                                // [rows, in] fp32, on a GPU bf16 too, row-strided
  In slots;                            // [rows] int32; negative: no adapter
  LoraDownPart parts[kMostLoraParts];  // those that are defined, first
  Out h;                               // kLoraUp's alone: fp32, as lora_down() makes it
  int64_t experts = 1;  // matrices in a slot, one after another; then slots[row] is slot * experts + expert
  bool pieces = false;  // rows of x and all a are whole pieces of 16 bytes
  auto operands() {
    auto& [p, q, r] = parts;
    return std::tie(x, slots, p.a, p.ranks, q.a, q.ranks, r.a, r.ranks, h);
  }
};
inline constinit KernelSlot<LoraDownArgs> kLoraDown{"lora_down"};

// y += scale B h
struct LoraUpPart {
  In b;       // [slots, experts * rank * out] of y's type: B transposed
  In ranks;   // as above
  In scales;  // [slots] fp32
  InOut y;    // [rows, out], row-strided
};
struct LoraUpArgs {
  In h, slots;
  LoraUpPart parts[kMostLoraParts];
  int64_t experts = 1, in = 0;
  bool pieces = false;
  auto operands() {
    auto& [p, q, r] = parts;
    return std::tie(h, slots, p.b, p.ranks, p.scales, p.y, q.b, q.ranks, q.scales, q.y, r.b, r.ranks,
                    r.scales, r.y);
  }
};
inline constinit KernelSlot<LoraUpArgs> kLoraUp{"lora_up"};

// Of a projection, [slots, ...]; its columns of the product are [first, first + rows).
struct LoraSlots {
  Tensor a, b, ranks, scales;
  int64_t first = 0, rows = 0;
};

// What an addition has between its two products. Ranks are rounded up to kLoraRanks; sums along `in` may be
// in pieces of kLoraGroup, each for all rows, where there are at most kLoraSplitRows.
struct LoraHidden {
  Tensor h;
  bool pieces = false;
};
constexpr int64_t kLoraRanks = 16, kLoraGroup = 1024, kLoraSplitRows = 2048;

// No gradient. At most kMostLoraParts parts. Rows of experts: x [tokens, top_k, in], slots of expert_slots()
// and y [tokens, top_k, out]. slots' live count may be 0 where no row has an adapter.
LoraHidden lora_down(Context& context, const Tensor& x, const Tensor& slots,
                     const std::vector<LoraSlots>& parts, int64_t experts = 1);
// Adds to y, in place.
void lora_up(Context& context, const Tensor& x, const LoraHidden& hidden, const Tensor& slots,
             const std::vector<LoraSlots>& parts, const Tensor& y, int64_t experts = 1);

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
// kept, rank numbers a row and target; what dropout left is made anew in backward, and x where it can be.
// Several targets have no dropout.
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
