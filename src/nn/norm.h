#pragma once
// A norm, with the addition before it, and what the products behind it read of its result.

#include "nn/linear.h"
#include "nn/partition.h"

namespace flagscale::nn {

struct Normed {
  Tensor sum;           // x + delta
  Tensor y;             // the result, or
  op::Fp8Rows rounded;  // what a product of fp8 takes in its place
  Tensor largest{};     // of y, where the reader measures it
};

// delta: undefined, or added to x. reader: null, or the linear that alone reads the result.
Normed norm(Context& context, const Tensor& x, const Tensor& delta, const Parameter& weight, float eps,
            const Linear* reader);
// The reader's product, column-sharded. Rounded rows are served by one rank alone.
Tensor of_norm(Context& context, Partition& partition, const Linear& reader, const Normed& x);

}  // namespace flagscale::nn
