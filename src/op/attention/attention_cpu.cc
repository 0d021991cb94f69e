// A unit of work is one block of queries of one sequence with all the heads that share a kv head, so that a
// block of keys is widened and transposed once for them; the longest units first. A strip's scores stay in L1
// between its two products. Bound by arithmetic: 4 head_dim flops a visible pair.
#include "op/attention/attention_blocks.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

// Queries of a unit: enough rows to hide the work on the keys.
int64_t unit_tokens(const AttentionShape& s) { return s.heads >= 2 * s.kv_heads ? kBlock : 2 * kBlock; }

template <class S>
struct Scratch {  // one thread's
  S *q, *mixed, *sum, *maximum, *kt, *v, *scores, *weights;
  static int64_t elements(const AttentionShape& s) {
    const int64_t rows = unit_tokens(s) * (s.heads / s.kv_heads), pitch = padded_dim(s);
    return rows * (2 * pitch + kColumnStep) + ceil_div(rows, 16) * 16 + kBlock * (2 * pitch + 2 * kStrip);
  }
  Scratch(S* base, const AttentionShape& s) {
    const int64_t rows = unit_tokens(s) * (s.heads / s.kv_heads), pitch = padded_dim(s);
    q = base, mixed = q + rows * pitch, sum = mixed + rows * pitch, maximum = sum + rows * kColumnStep;
    kt = maximum + ceil_div(rows, 16) * 16, v = kt + kBlock * pitch, scores = v + kBlock * pitch,
    weights = scores + kBlock * kStrip;
  }
};

// One step of the online softmax over raw scores [begin, end) of a row, of which some key is seen: they
// become exp(scale * score - maximum); mixed and the lanes of sum are rescaled to the new maximum.
template <class V>
void softmax_row(typename V::Scalar* scores, int64_t begin, int64_t end, typename V::Scalar scale,
                 typename V::Scalar& maximum, typename V::Scalar* sum, typename V::Scalar* mixed,
                 int64_t pitch) {
  using S = typename V::Scalar;
  V high = V::load(scores + begin);
  for (int64_t j = begin + V::kLanes; j < end; j += V::kLanes) high = V::max(high, V::load(scores + j));
  const S block_high = high.highest() * scale;
  if (block_high > maximum) {
    const V shrink = V::set(maximum == kLowest<S> ? S(0) : std::exp(maximum - block_high));
    (V::load(sum) * shrink).store(sum);
    for (int64_t i = 0; i < pitch; i += V::kLanes) (V::load(mixed + i) * shrink).store(mixed + i);
    maximum = block_high;
  }
  const V factor = V::set(scale), shift = V::set(-maximum);
  V total = V::load(sum);
  for (int64_t j = begin; j < end; j += V::kLanes) {
    const V p = V::exp(V::fma(V::load(scores + j), factor, shift));
    p.store(scores + j);
    total = total + p;
  }
  total.store(sum);
}

// Rows [row, row + rows) of the scratch, queries from `query`, against the block of keys at k0.
template <class V, class F>
void attend_strip(Scratch<typename V::Scalar> w, int64_t row, int64_t rows, int64_t query, int64_t k0,
                  const AttentionShape& s) {
  using S = typename V::Scalar;
  const int64_t pitch = padded_dim(s), depth = ceil_div(s.head_dim, F::kElements);
  const Columns c = strip_columns(query, rows, k0, s.window);
  if (c.end == 0) return;
  product<V, false, F>(w.q + row * pitch, pitch, 1, w.kt + c.begin, kBlock, w.scores + c.begin, kBlock, rows,
                       c.end - c.begin, depth);
  for (int64_t r = 0; r < rows; ++r) {
    S* scores = w.scores + r * kBlock;
    const Columns seen = visible(query + r, k0, s.window);
    const bool any = seen.begin < seen.end;
    for (int64_t j = c.begin; j < seen.begin; ++j) scores[j] = any ? kLowest<S> : S(0);
    for (int64_t j = seen.end; j < c.end; ++j) scores[j] = any ? kLowest<S> : S(0);
    if (any)
      softmax_row<V>(scores, c.begin, c.end, S(s.scale), w.maximum[row + r], w.sum + (row + r) * kColumnStep,
                     w.mixed + (row + r) * pitch, pitch);
    if constexpr (F::kElements > 1) F::along_row(scores, c.begin, c.end, w.weights + r * kBlock);
  }
  const S* weights = F::kElements > 1 ? w.weights : w.scores;
  const int64_t first = c.begin / F::kElements;
  product<V, true, F>(weights + first, kBlock, 1, w.v + first * pitch, pitch, w.mixed + row * pitch, pitch,
                      rows, pitch, (c.end - c.begin) / F::kElements);
}

// Queries [q0, q0 + tokens) of the sequence at token `begin`, the heads of kv.
template <class V, class T, class F>
void attend(const AttentionArgs& args, int64_t begin, int64_t length, int64_t kv, int64_t q0, int64_t tokens,
            Scratch<typename V::Scalar> w) {
  using S = typename V::Scalar;
  const AttentionShape& s = args.shape;
  const int64_t group = s.heads / s.kv_heads, d = s.head_dim, pitch = padded_dim(s), rows = group * tokens;
  const auto at = [&](const TensorView& x, int64_t token, int64_t head) {
    return x.ptr<T>() + (begin + token) * x.row_stride() + head * d;
  };
  for (int64_t g = 0; g < group; ++g)
    F::along(at(args.q, q0, kv * group + g), args.q.row_stride(), tokens, d, pitch, w.q + g * tokens * pitch);
  for (int64_t i = 0; i < rows; ++i) w.maximum[i] = kLowest<S>;
  std::memset(w.sum, 0, static_cast<size_t>(rows * kColumnStep) * sizeof(S));
  std::memset(w.mixed, 0, static_cast<size_t>(rows * pitch) * sizeof(S));

  for (int64_t k0 = first_block(q0, s.window) * kBlock; k0 < q0 + tokens; k0 += kBlock) {
    const int64_t keys = at_most(length - k0, kBlock);
    F::transposed(at(args.k, k0, kv), args.k.row_stride(), keys, d, kBlock, w.kt);
    F::across(at(args.v, k0, kv), args.v.row_stride(), keys, kBlock, d, pitch, w.v);
    for (int64_t g = 0; g < group; ++g)
      for (int64_t r = 0; r < tokens; r += kStrip)
        attend_strip<V, F>(w, g * tokens + r, at_most(tokens - r, kStrip), q0 + r, k0, s);
  }
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t token = q0 + row % tokens, head = kv * group + row / tokens;
    const S sum = V::load(w.sum + row * kColumnStep).sum();
    const V inverse = V::set(S(1) / sum);
    T* out = at(args.out, token, head);
    for_lanes<V>(d, [&](int64_t i, int64_t n) {
      (V::load_n(w.mixed + row * pitch + i, n) * inverse).store_n(out + i, n);
    });
    args.lse.ptr<S>()[head * args.lse.dims[1] + begin + token] = w.maximum[row] + std::log(sum);
  }
}

void run(KernelContext& context, const AttentionArgs& args) {
  const AttentionShape& s = args.shape;
  const Sequences sequences(args.cu_seqlens, args.sequences);
  const int64_t size = unit_tokens(s), starts_bytes = ceil_div(args.cu_seqlens.dims[0], 8) * 64;
  auto* starts = reinterpret_cast<int64_t*>(context.workspace.data());
  sequences.number(size, s.kv_heads, starts);
  const bool pairs = s.head_dim % 2 == 0 && even(args.q) && even(args.k) && even(args.v);
  for_factors(args.q.dtype, pairs, [&]<class V, class T, class F>(V, T, F) {
    using S = typename V::Scalar;
    S* scratch = reinterpret_cast<S*>(context.workspace.data() + starts_bytes);
    for_units(context, starts[sequences.count], [&](int64_t unit, int thread) {
      const int64_t sequence = owner_of(starts, sequences.count, unit), length = sequences.length(sequence);
      const int64_t index = unit - starts[sequence], last = ceil_div(length, size) - 1;
      const int64_t q0 = (last - index / s.kv_heads) * size;
      attend<V, T, F>(args, sequences.begin(sequence), length, index % s.kv_heads, q0,
                      at_most(length - q0, size), Scratch<S>(scratch + thread * Scratch<S>::elements(s), s));
    });
  });
}

size_t workspace(const AttentionArgs& args, int threads) {
  const int64_t element = args.q.dtype == DType::kF64 ? 8 : 4;
  return static_cast<size_t>(ceil_div(args.cu_seqlens.dims[0], 8) * 64 +
                             threads * Scratch<float>::elements(args.shape) * element);
}

const CpuKernel<AttentionArgs> kKernel{kAttention, kIsa, &run, &workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
