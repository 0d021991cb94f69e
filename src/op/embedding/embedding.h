#pragma once
// y[t] = table[ids[t]]. Ids outside the table are a caller's mistake, found by whoever filled them: the
// kernel reads row 0 for them rather than foreign memory.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

struct EmbeddingArgs {
  In ids;    // [tokens] int32
  In table;  // [vocab, hidden]
  Out y;     // [tokens, hidden]
  auto operands() { return std::tie(ids, table, y); }
};
inline constinit KernelSlot<EmbeddingArgs> kEmbedding{"embedding"};

struct EmbeddingBackwardArgs {
  In ids, dy;
  InOut dtable;  // [vocab, hidden] fp32, bf16 (fp64); rows of one id are added in token order
  const int64_t* accumulate;
  auto operands() { return std::tie(ids, dy, dtable); }
};
inline constinit KernelSlot<EmbeddingBackwardArgs> kEmbeddingBackward{"embedding_backward"};

Tensor embedding(Context& context, const Tensor& ids, const Tensor& table);

}  // namespace flagscale::op
