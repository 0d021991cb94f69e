#pragma once
// Which experts a token goes to and how much each counts, from one number an expert and token. Mixtral,
// Qwen2- and Qwen3-MoE take the highest of a softmax; DeepSeek-V3 the highest of sigmoid + bias within the
// best groups of experts. A kind of router is values of RouterSpec, not code.
//
// A row's result depends on that row alone; of equal scores the lower expert wins.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

constexpr int kMostExperts = 1024;

enum class RouterScore : uint8_t { kSoftmax, kSigmoid };

struct RouterSpec {
  int top_k = 2;
  RouterScore score = RouterScore::kSoftmax;
  bool normalise = true;            // a weight is score / (sum of the chosen scores + floor), else the score
  float floor = 0;                  // DeepSeek's 1e-20
  float scale = 1;                  // of every weight
  int groups = 1, kept_groups = 1;  // of equal size, ranked by the sum of their two highest scores with bias
};

// Losses that keep experts evenly used (Fedus et al., "Switch Transformers", 2021) and logits small (Zoph et
// al., "ST-MoE", 2022). They are added to the gradient of the logits, as Megatron does, and told by
// `statistics`.
//   balance * experts / (top_k * tokens^2) * sum over experts of (tokens that chose it) * (sum of its scores)
//   z * mean over tokens of logsumexp(logits)^2
struct RouterLosses {
  float balance = 0, z = 0;
  bool across_layers = false;  // transformers' balance: tokens of all layers count as one set, without top_k
  const float* scale = nullptr;  // of the gradients, read when kernels run; null: 1
  Tensor statistics{};           // [layers, 2 experts + 1] fp32 (fp64): see router_loss_values()
  bool wanted() const { return balance != 0 || z != 0; }
};

// What the statistics of `tokens` tokens say, without coefficients: the mean over layers, as Megatron logs it
// (transformers' value with across_layers).
struct RouterLossValues {
  double balance = 0, z = 0;
};
RouterLossValues router_loss_values(const RouterLosses& losses, int top_k, int64_t tokens);

struct RouterArgs {
  In logits;    // [tokens, experts] fp32 (fp64)
  In bias;      // [experts] of the same type, added to scores for the choice alone; or undefined
  Out scores;   // [tokens, experts]
  Out experts;  // [tokens, top_k] int32, the best first
  Out weights;  // [tokens, top_k]
  RouterSpec spec;
  auto operands() { return std::tie(logits, bias, scores, experts, weights); }
};
inline constinit KernelSlot<RouterArgs> kRouter{"router"};

struct RouterStatisticsArgs {
  In logits, scores, experts;
  Out statistics;  // [1, 2 experts + 1]: how often each was chosen, sums of scores, sum of logsumexp^2
  auto operands() { return std::tie(logits, scores, experts, statistics); }
};
inline constinit KernelSlot<RouterStatisticsArgs> kRouterStatistics{"router_statistics"};

struct RouterBackwardArgs {
  In logits, scores, experts, weights;
  In dweights;    // [tokens, top_k], or undefined: zero
  In statistics;  // [layers, 2 experts + 1], or undefined: no losses
  Out dlogits;
  RouterSpec spec;
  int layer;
  float balance, z;
  bool across_layers;
  const float* scale;
  auto operands() { return std::tie(logits, scores, experts, weights, dweights, statistics, dlogits); }
};
inline constinit KernelSlot<RouterBackwardArgs> kRouterBackward{"router_backward"};

struct Routing {
  Tensor weights;  // [tokens, top_k]
  Tensor experts;  // [tokens, top_k] int32
};
// losses: null or without coefficients: none. layer: its row of the statistics.
Routing route(Context& context, const Tensor& logits, const Tensor& bias, const RouterSpec& spec,
              const RouterLosses* losses = nullptr, int layer = 0);

}  // namespace flagscale::op
