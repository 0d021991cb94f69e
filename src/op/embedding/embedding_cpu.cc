// Bound by memory. Backward is cut by columns, so that each sum runs over the tokens in order whatever the
// team.
#include "kernel/simd.h"
#include "op/embedding/embedding.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

constexpr int64_t kColumns = 128;

int64_t row_of(const TensorView& ids, int64_t token, int64_t vocab) {
  const int32_t id = ids.ptr<const int32_t>()[token];
  return id >= 0 && id < vocab ? id : 0;
}

void forward(KernelContext& context, const EmbeddingArgs& args) {
  const size_t bytes = static_cast<size_t>(args.y.cols()) * size_of(args.y.dtype);
  context.team.for_each(
      args.ids.size(),
      [&](int64_t token) {
        const int64_t row = row_of(args.ids, token, args.table.dims[0]);
        std::memcpy(args.y.ptr<char>() + static_cast<size_t>(token) * bytes,
                    args.table.ptr<const char>() + static_cast<size_t>(row) * bytes, bytes);
      },
      64);
}

template <class V, class T>
void add_columns(const EmbeddingBackwardArgs& args, int64_t first, int64_t n, bool add) {
  using S = typename V::Scalar;
  const int64_t vocab = args.dtable.dims[0], stride = args.dtable.row_stride();
  S* dtable = args.dtable.ptr<S>() + first;
  if (!add)
    for (int64_t row = 0; row < vocab; ++row)
      std::memset(dtable + row * stride, 0, static_cast<size_t>(n) * sizeof(S));
  for (int64_t token = 0; token < args.ids.size(); ++token) {
    S* row = dtable + row_of(args.ids, token, vocab) * stride;
    const T* dy = args.dy.ptr<const T>() + token * args.dy.row_stride() + first;
    for_lanes<V>(
        n, [&](int64_t i, int64_t m) { (V::load_n(row + i, m) + V::load_n(dy + i, m)).store_n(row + i, m); });
  }
}

// Tokens of each row in order: the first of a row, and of a token the next.
struct TokensOfRows {
  int32_t *first, *next;

  explicit TokensOfRows(std::byte* memory, const EmbeddingBackwardArgs& args)
      : first(reinterpret_cast<int32_t*>(memory)), next(first + args.dtable.dims[0]) {
    const int64_t vocab = args.dtable.dims[0], count = args.ids.live ? *args.ids.live : args.ids.dims[0];
    for (int64_t row = 0; row < vocab; ++row) first[row] = -1;
    for (int64_t token = count; token-- > 0;) {
      const int64_t row = row_of(args.ids, token, vocab);
      next[token] = first[row];
      first[row] = static_cast<int32_t>(token);
    }
  }
};

// A sum in bf16 is rounded once, when all of its tokens are in it.
template <class V, class T>
void add_columns_rounded(const EmbeddingBackwardArgs& args, const TokensOfRows& tokens, int64_t first,
                         int64_t n, bool add) {
  for (int64_t r = 0; r < args.dtable.dims[0]; ++r) {
    BF16* const row = args.dtable.ptr<BF16>() + r * args.dtable.row_stride() + first;
    if (tokens.first[r] < 0 && add) continue;
    for_lanes<V>(n, [&](int64_t i, int64_t m) {
      V sum = add ? V::load_n(row + i, m) : V::zero();
      for (int32_t token = tokens.first[r]; token >= 0; token = tokens.next[token])
        sum = sum + V::load_n(args.dy.ptr<const T>() + token * args.dy.row_stride() + first + i, m);
      sum.store_n(row + i, m);
    });
  }
}

void backward(KernelContext& context, const EmbeddingBackwardArgs& args) {
  const bool add = !args.accumulate || *args.accumulate != 0;
  const int64_t cols = args.dtable.cols();
  const auto for_blocks = [&](auto&& body) {
    context.team.for_each((cols + kColumns - 1) / kColumns, [&](int64_t block) {
      const int64_t first = block * kColumns;
      body(first, cols - first < kColumns ? cols - first : kColumns);
    });
  };
  for_float_type(args.dy.dtype, [&]<class V, class T>(V, T) {
    if (args.dtable.dtype != DType::kBF16)
      return for_blocks([&](int64_t first, int64_t n) { add_columns<V, T>(args, first, n, add); });
    const TokensOfRows tokens(context.workspace.data(), args);
    for_blocks([&](int64_t first, int64_t n) { add_columns_rounded<V, T>(args, tokens, first, n, add); });
  });
}

size_t backward_workspace(const EmbeddingBackwardArgs& args, int) {
  const bool rounded = args.dtable.dtype == DType::kBF16;
  return rounded ? static_cast<size_t>(args.dtable.dims[0] + args.ids.dims[0]) * sizeof(int32_t) : 0;
}

const CpuKernel<EmbeddingArgs> kForward{kEmbedding, kIsa, &forward};
const CpuKernel<EmbeddingBackwardArgs> kBackward{kEmbeddingBackward, kIsa, &backward, &backward_workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
