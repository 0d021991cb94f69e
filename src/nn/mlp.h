#pragma once
// down(silu(gate x) * up x): the feed-forward block of a dense layer, and of experts that every token has.

#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/partition.h"

namespace flagscale::nn {

struct Mlp {
  Linear gate_up, down;  // [2 size, hidden], [hidden, size]
  int64_t size;

  Tensor operator()(Context& context, Partition& partition, const Tensor& x) const;
  Tensor operator()(Context& context, Partition& partition, const Normed& x) const;
};

}  // namespace flagscale::nn
