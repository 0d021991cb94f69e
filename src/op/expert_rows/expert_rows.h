#pragma once
// Tokens to the rows of their experts and back, without padding: every token has top_k rows, so there are
// always tokens * top_k of them, sorted by expert and, within one, by token. Rows are tensors [tokens, top_k,
// n]: a token's capacity and live count are theirs too, and whatever the routing, nothing is traced again.
//
// A token's sum takes its choices in order, so it is bitwise the same whatever other tokens there are.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

// Where each choice is. A choice is token * top_k + j.
struct ExpertOrder {
  Tensor counts;   // [experts] int32: rows of each expert
  Tensor rows;     // [tokens, top_k] int32: the row of each choice
  Tensor choices;  // [tokens, top_k] int32: the choice of each row
};

struct SortByExpertArgs {
  In experts;  // [tokens, top_k] int32, each below counts' size
  Out counts, rows, choices;
  auto operands() { return std::tie(experts, counts, rows, choices); }
};
inline constinit KernelSlot<SortByExpertArgs> kSortByExpert{"sort_by_expert"};

ExpertOrder sort_by_expert(Context& context, const Tensor& experts, int64_t num_experts);

struct ExpertSlotsArgs {
  In slots;            // [tokens] int32
  In counts, choices;  // ExpertOrder's
  Out rows;            // [tokens, top_k] int32
  auto operands() { return std::tie(slots, counts, choices, rows); }
};
inline constinit KernelSlot<ExpertSlotsArgs> kExpertSlots{"expert_slots"};

// What each sorted row is to op::lora_down() with matrices of several experts in a slot: its token's slot
// times the experts, plus its expert; -1 where the slot is negative. Where slots' live count is 0 nothing is
// done, here and there.
Tensor expert_slots(Context& context, const Tensor& slots, const ExpertOrder& order);

struct SpreadArgs {
  In x;        // [tokens, n]
  In choices;  // [tokens, top_k]
  In weights;  // [tokens, top_k] fp32 (fp64) or undefined: 1
  Out y;       // [tokens, top_k, n]: row r is weight * x of its choice's token
  auto operands() { return std::tie(x, choices, weights, y); }
};
inline constinit KernelSlot<SpreadArgs> kSpread{"spread"};

struct GatherArgs {
  In x;        // [tokens, top_k, n]
  In rows;     // [tokens, top_k]
  In weights;  // as above
  Out y;       // [tokens, n]: the sum over a token's choices of weight * row
  auto operands() { return std::tie(x, rows, weights, y); }
};
inline constinit KernelSlot<GatherArgs> kGather{"gather"};

struct GatherWeightsArgs {
  In x, rows;  // as above
  In dy;       // [tokens, n]
  Out dweights;
  auto operands() { return std::tie(x, rows, dy, dweights); }
};
inline constinit KernelSlot<GatherWeightsArgs> kGatherWeights{"gather_weights"};

// x [tokens, n] -> [tokens, top_k, n]
Tensor spread_to_experts(Context& context, const Tensor& x, const ExpertOrder& order);
// y [tokens, top_k, n] -> [tokens, n]
Tensor gather_from_experts(Context& context, const Tensor& y, const Tensor& weights,
                           const ExpertOrder& order);

}  // namespace flagscale::op
