#pragma once
// The points where activations change hands between ranks. Model code names them; on one rank each is the identity.
// Tensor parallelism (Shoeybi et al., 2019; Korthikanti et al., 2022) implements them without touching a model.

#include "autograd/context.h"

namespace flagscale::nn {

class Partition {
 public:
  virtual ~Partition() = default;

  // Around a pair of products: enter before the column-sharded one, exit after the row-sharded one.
  virtual Tensor enter_column(Context&, const Tensor& x) { return x; }
  virtual Tensor exit_row(Context&, const Tensor& y) { return y; }

  // After a look-up in a vocabulary-sharded table; before the output head's product.
  virtual Tensor exit_vocabulary(Context&, const Tensor& y) { return y; }
  virtual Tensor enter_vocabulary(Context&, const Tensor& x) { return x; }

  // Ranks that share the heads of attention and the columns of the feed-forward network.
  virtual int tensor_ranks() const { return 1; }
};

}  // namespace flagscale::nn
