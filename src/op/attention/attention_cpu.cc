// A unit of work is one block of queries of one sequence with all the heads that share a kv head, so that a
// block of keys is widened and transposed once for them; the longest units first. A strip's scores stay in L1
// between its two products. Bound by arithmetic: 4 head_dim flops a visible pair.
#include "op/attention/attention_blocks.h"

namespace flagscale::op::FLAGSCALE_ISA {
namespace {

// Queries of a unit: enough rows to hide the work on the keys.
int64_t unit_tokens(const AttentionShape& s) { return s.heads >= 2 * s.kv_heads ? kBlock : 2 * kBlock; }

template <class S>
struct Scratch {  // one thread's
  S *q, *mixed, *sum, *maximum, *kt, *v, *scores;
  static int64_t elements(const AttentionShape& s) {
    const int64_t rows = unit_tokens(s) * (s.heads / s.kv_heads), pitch = padded_dim(s);
    return rows * (2 * pitch + kColumnStep) + ceil_div(rows, 16) * 16 + kBlock * (2 * pitch + kStrip);
  }
  Scratch(S* base, const AttentionShape& s) {
    const int64_t rows = unit_tokens(s) * (s.heads / s.kv_heads), pitch = padded_dim(s);
    q = base, mixed = q + rows * pitch, sum = mixed + rows * pitch, maximum = sum + rows * kColumnStep;
    kt = maximum + ceil_div(rows, 16) * 16, v = kt + kBlock * pitch, scores = v + kBlock * pitch;
  }
};

// One step of the online softmax over scores [begin, end) of a row: they become exp(s - maximum); mixed and
// the lanes of sum are rescaled to the new maximum.
template <class V>
void softmax_row(typename V::Scalar* scores, int64_t begin, int64_t end, typename V::Scalar& maximum,
                 typename V::Scalar* sum, typename V::Scalar* mixed, int64_t pitch) {
  using S = typename V::Scalar;
  V high = V::load(scores + begin);
  for (int64_t j = begin + V::kLanes; j < end; j += V::kLanes) high = V::max(high, V::load(scores + j));
  const S block_high = high.highest();
  if (block_high > maximum) {
    const V scale = V::set(maximum == kLowest<S> ? S(0) : std::exp(maximum - block_high));
    (V::load(sum) * scale).store(sum);
    for (int64_t i = 0; i < pitch; i += V::kLanes) (V::load(mixed + i) * scale).store(mixed + i);
    maximum = block_high;
  }
  if (maximum == kLowest<S>) {  // nothing visible yet
    for (int64_t j = begin; j < end; ++j) scores[j] = 0;
    return;
  }
  const V shift = V::set(maximum);
  V total = V::load(sum);
  for (int64_t j = begin; j < end; j += V::kLanes) {
    const V p = V::exp(V::load(scores + j) - shift);
    p.store(scores + j);
    total = total + p;
  }
  total.store(sum);
}

template <class S>
void mask_row(S* row, Columns seen, Columns computed) {
  for (int64_t j = computed.begin; j < seen.begin; ++j) row[j] = kLowest<S>;
  for (int64_t j = seen.end; j < computed.end; ++j) row[j] = kLowest<S>;
}

// Rows [row, row + rows) of the scratch, queries from `query`, against the block of keys at k0.
template <class V>
void attend_strip(Scratch<typename V::Scalar> w, int64_t row, int64_t rows, int64_t query, int64_t k0,
                  const AttentionShape& s) {
  const int64_t pitch = padded_dim(s);
  const Columns columns = strip_columns(query, rows, k0, s.window);
  const int64_t n = columns.end - columns.begin;
  if (n == 0) return;
  product<V, false>(w.q + row * pitch, pitch, 1, w.kt + columns.begin, kBlock, w.scores + columns.begin,
                    kBlock, rows, n, s.head_dim);
  for (int64_t r = 0; r < rows; ++r) {
    mask_row(w.scores + r * kBlock, visible(query + r, k0, s.window), columns);
    softmax_row<V>(w.scores + r * kBlock, columns.begin, columns.end, w.maximum[row + r],
                   w.sum + (row + r) * kColumnStep, w.mixed + (row + r) * pitch, pitch);
  }
  product<V, true>(w.scores + columns.begin, kBlock, 1, w.v + columns.begin * pitch, pitch,
                   w.mixed + row * pitch, pitch, rows, pitch, n);
}

// Queries [q0, q0 + tokens) of the sequence at token `begin`, the heads of kv.
template <class V, class T>
void attend(const AttentionArgs& args, int64_t begin, int64_t length, int64_t kv, int64_t q0, int64_t tokens,
            Scratch<typename V::Scalar> w) {
  using S = typename V::Scalar;
  const AttentionShape& s = args.shape;
  const int64_t group = s.heads / s.kv_heads, d = s.head_dim, pitch = padded_dim(s), rows = group * tokens;
  const auto at = [&](const TensorView& x, int64_t token, int64_t head) {
    return x.ptr<T>() + (begin + token) * x.row_stride() + head * d;
  };
  for (int64_t g = 0; g < group; ++g)
    widen<V>(at(args.q, q0, kv * group + g), args.q.row_stride(), tokens, tokens, d, pitch, S(s.scale),
             w.q + g * tokens * pitch);
  for (int64_t i = 0; i < rows; ++i) w.maximum[i] = kLowest<S>;
  std::memset(w.sum, 0, static_cast<size_t>(rows * kColumnStep) * sizeof(S));
  std::memset(w.mixed, 0, static_cast<size_t>(rows * pitch) * sizeof(S));

  for (int64_t k0 = first_block(q0, s.window) * kBlock; k0 < q0 + tokens; k0 += kBlock) {
    const int64_t keys = at_most(length - k0, kBlock);
    transpose<V>(at(args.k, k0, kv), args.k.row_stride(), keys, d, kBlock, w.kt, kBlock);
    widen<V>(at(args.v, k0, kv), args.v.row_stride(), keys, kBlock, d, pitch, S(1), w.v);
    for (int64_t g = 0; g < group; ++g)
      for (int64_t r = 0; r < tokens; r += kStrip)
        attend_strip<V>(w, g * tokens + r, at_most(tokens - r, kStrip), q0 + r, k0, s);
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
  for_float_type(args.q.dtype, [&]<class V, class T>(V, T) {
    using S = typename V::Scalar;
    S* scratch = reinterpret_cast<S*>(context.workspace.data() + starts_bytes);
    for_units(context, starts[sequences.count], [&](int64_t unit, int thread) {
      const int64_t sequence = owner_of(starts, sequences.count, unit), length = sequences.length(sequence);
      const int64_t index = unit - starts[sequence], last = ceil_div(length, size) - 1;
      const int64_t q0 = (last - index / s.kv_heads) * size;
      attend<V, T>(args, sequences.begin(sequence), length, index % s.kv_heads, q0,
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
}  // namespace flagscale::op::FLAGSCALE_ISA
