// A unit of work is one head of one sequence; units go to threads in any order, each writes its own place. Blocks of
// kQ queries and kK keys keep scores in L1; K and V are widened to fp32 and transposed once a unit. Bound by arithmetic:
// 4 d flops a visible pair forward, 10 d backward (scores are formed again).
#include "op/attention/attention.h"

#include "kernel/small_product.h"

namespace flagscale::op::FLAGSCALE_ISA {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

constexpr int64_t kQ = 48, kK = 64;

template <class S>
struct Limits {
  static constexpr S kLowest = static_cast<S>(-1e30);
};

int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }
int64_t padded_dim(const AttentionShape& s) { return blocks(s.head_dim, 16) * 16; }

// dst[rows][pitch] from rows of x, padded with zeros; multiplied by factor.
template <class V, class T>
void widen(const T* x, int64_t stride, int64_t rows, int64_t dim, int64_t pitch, typename V::Scalar factor,
           typename V::Scalar* dst) {
  for (int64_t r = 0; r < rows; ++r) {
    for_lanes<V>(dim, [&](int64_t i, int64_t n) { (V::load_n(x + r * stride + i, n) * V::set(factor)).store_n(dst + r * pitch + i, n); });
    for (int64_t i = dim; i < pitch; ++i) dst[r * pitch + i] = 0;
  }
}

// dst[block][dim][kK]: columns of x by blocks of kK rows, zeros past the last row.
template <class S, class T>
void transpose(const T* x, int64_t stride, int64_t rows, int64_t dim, S* dst) {
  for (int64_t first = 0; first < rows; first += kK, dst += dim * kK)
    for (int64_t j = 0; j < kK; ++j)
      for (int64_t i = 0; i < dim; ++i) dst[i * kK + j] = first + j < rows ? S(as_float(x[(first + j) * stride + i])) : S(0);
}

// Which keys of block [k0, k0 + kK) query i sees: [begin, end) relative to k0.
struct Range {
  int64_t begin, end;
};
Range visible(int64_t query, int64_t k0, int64_t window) {
  const int64_t low = window > 0 && query - window + 1 > 0 ? query - window + 1 : 0;
  const int64_t begin = low - k0 > 0 ? low - k0 : 0, end = query + 1 - k0 < kK ? query + 1 - k0 : kK;
  return {begin < kK ? begin : kK, end > begin ? end : begin};
}
int64_t first_block(int64_t query, int64_t window) {
  return window > 0 && query - window + 1 > 0 ? (query - window + 1) / kK : 0;
}

template <class S>
void mask_row(S* row, Range seen, S value) {
  for (int64_t j = 0; j < seen.begin; ++j) row[j] = value;
  for (int64_t j = seen.end; j < kK; ++j) row[j] = value;
}

// One step of the online softmax: scores become exp(s - m), mixed is rescaled to the new maximum.
template <class V>
void softmax_row(typename V::Scalar* scores, typename V::Scalar& maximum, typename V::Scalar& sum,
                 typename V::Scalar* mixed, int64_t pitch) {
  using S = typename V::Scalar;
  V high = V::load(scores);
  for (int64_t j = V::kLanes; j < kK; j += V::kLanes) high = V::max(high, V::load(scores + j));
  const S block_high = high.highest(), top = block_high > maximum ? block_high : maximum;
  if (top == Limits<S>::kLowest) {  // nothing visible yet
    for (int64_t j = 0; j < kK; ++j) scores[j] = 0;
    return;
  }
  const V shift = V::set(top);
  V total = V::zero();
  for (int64_t j = 0; j < kK; j += V::kLanes) {
    const V p = V::exp(V::load(scores + j) - shift);
    p.store(scores + j);
    total = total + p;
  }
  const S scale = maximum == Limits<S>::kLowest ? S(0) : std::exp(maximum - top);
  sum = sum * scale + total.sum();
  if (scale != S(1))
    for (int64_t i = 0; i < pitch; i += V::kLanes) (V::load(mixed + i) * V::set(scale)).store(mixed + i);
  maximum = top;
}

template <class S>
struct Scratch {  // one thread's
  S *kt, *v, *q, *scores, *mixed;
  static size_t elements(int64_t tokens, int64_t pitch) {
    const int64_t rows = blocks(tokens, kK) * kK;
    return static_cast<size_t>(2 * rows * pitch + 2 * kQ * pitch + kQ * kK);
  }
  Scratch(S* base, int64_t tokens, int64_t pitch) {
    const int64_t rows = blocks(tokens, kK) * kK;
    kt = base;
    v = kt + rows * pitch;
    q = v + rows * pitch;
    mixed = q + kQ * pitch;
    scores = mixed + kQ * pitch;
  }
};

// Hands units 0..n-1 to the team's threads; body(unit, thread).
template <class Body>
void for_units(const KernelContext& context, int64_t n, Body&& body) {
  int64_t next = 0;
  context.team.run([&](int thread) {
    for (int64_t unit; (unit = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < n;) body(unit, thread);
  });
}

int64_t sequences_of(const TensorView& cu_seqlens, const int64_t* live) { return live ? *live : cu_seqlens.dims[0] - 1; }

template <class V, class T>
void forward_unit(const AttentionArgs& args, int64_t sequence, int64_t head, Scratch<typename V::Scalar> w) {
  using S = typename V::Scalar;
  const AttentionShape& s = args.shape;
  const int64_t begin = args.cu_seqlens.ptr<const int32_t>()[sequence], d = s.head_dim, pitch = padded_dim(s);
  const int64_t length = args.cu_seqlens.ptr<const int32_t>()[sequence + 1] - begin;
  const int64_t kv = head / (s.heads / s.kv_heads);
  const auto at = [&](const TensorView& x, int64_t h) { return x.ptr<const T>() + begin * x.row_stride() + h * d; };
  transpose(at(args.k, kv), args.k.row_stride(), length, d, w.kt);
  widen<V>(at(args.v, kv), args.v.row_stride(), length, d, pitch, S(1), w.v);
  for (int64_t row = length; row < blocks(length, kK) * kK; ++row)
    for (int64_t i = 0; i < pitch; ++i) w.v[row * pitch + i] = 0;

  for (int64_t q0 = 0; q0 < length; q0 += kQ) {
    const int64_t rows = length - q0 < kQ ? length - q0 : kQ;
    S maximum[kQ], sum[kQ];
    for (int64_t r = 0; r < rows; ++r) maximum[r] = Limits<S>::kLowest, sum[r] = 0;
    widen<V>(at(args.q, head) + q0 * args.q.row_stride(), args.q.row_stride(), rows, d, pitch, S(s.scale), w.q);
    std::memset(w.mixed, 0, static_cast<size_t>(rows * pitch) * sizeof(S));
    for (int64_t block = first_block(q0, s.window); block * kK < q0 + rows; ++block) {
      product<V, false>(w.q, pitch, 1, w.kt + block * d * kK, kK, w.scores, kK, rows, kK, d);
      for (int64_t r = 0; r < rows; ++r) {
        mask_row(w.scores + r * kK, visible(q0 + r, block * kK, s.window), Limits<S>::kLowest);
        softmax_row<V>(w.scores + r * kK, maximum[r], sum[r], w.mixed + r * pitch, pitch);
      }
      product<V, true>(w.scores, kK, 1, w.v + block * kK * pitch, pitch, w.mixed, pitch, rows, pitch, kK);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t token = begin + q0 + r;
      T* out = args.out.ptr<T>() + token * args.out.row_stride() + head * d;
      const V inverse = V::set(S(1) / sum[r]);
      for_lanes<V>(d, [&](int64_t i, int64_t n) { (V::load_n(w.mixed + r * pitch + i, n) * inverse).store_n(out + i, n); });
      args.lse.ptr<S>()[head * args.lse.dims[1] + token] = maximum[r] + std::log(sum[r]);
    }
  }
}

void forward(KernelContext& context, const AttentionArgs& args) {
  for_float_type(args.q.dtype, [&]<class V, class T>(V, T) {
    using S = typename V::Scalar;
    const int64_t tokens = args.q.dims[0], pitch = padded_dim(args.shape);
    const size_t each = Scratch<S>::elements(tokens, pitch);
    for_units(context, sequences_of(args.cu_seqlens, args.sequences) * args.shape.heads, [&](int64_t unit, int thread) {
      S* base = reinterpret_cast<S*>(context.workspace.data()) + static_cast<size_t>(thread) * each;
      forward_unit<V, T>(args, unit / args.shape.heads, unit % args.shape.heads, Scratch<S>(base, tokens, pitch));
    });
  });
}

size_t forward_workspace(const AttentionArgs& args, int threads) {
  const size_t element = args.q.dtype == DType::kF64 ? 8 : 4;
  return Scratch<float>::elements(args.q.dims[0], padded_dim(args.shape)) * element * static_cast<size_t>(threads);
}

template <class S>
struct BackwardScratch {  // one thread's
  S *kt, *vt, *k, *dq, *q, *dout, *p, *ds, *delta;
  static size_t elements(int64_t tokens, int64_t pitch) {
    const int64_t rows = blocks(tokens, kK) * kK + kQ;
    return static_cast<size_t>(6 * rows * pitch + 2 * kQ * kK + rows);
  }
  BackwardScratch(S* base, int64_t tokens, int64_t pitch) {
    const int64_t rows = blocks(tokens, kK) * kK + kQ, size = rows * pitch;
    kt = base, vt = kt + size, k = vt + size, dq = k + size, q = dq + size, dout = q + size;
    p = dout + size, ds = p + kQ * kK, delta = ds + kQ * kK;
  }
};

// P and dS of one block from the scores in w.p and dout v^T in w.ds.
template <class V>
void score_gradients(BackwardScratch<typename V::Scalar> w, const typename V::Scalar* lse, int64_t q0, int64_t k0,
                     int64_t rows, const AttentionShape& s) {
  using S = typename V::Scalar;
  for (int64_t r = 0; r < rows; ++r) {
    S *p = w.p + r * kK, *ds = w.ds + r * kK;
    mask_row(p, visible(q0 + r, k0, s.window), Limits<S>::kLowest);
    const V shift = V::set(lse[q0 + r]), delta = V::set(w.delta[q0 + r]), scale = V::set(S(s.scale));
    for (int64_t j = 0; j < kK; j += V::kLanes) {
      const V probability = V::exp(V::load(p + j) - shift);
      probability.store(p + j);
      (probability * (V::load(ds + j) - delta) * scale).store(ds + j);
    }
    mask_row(p, visible(q0 + r, k0, s.window), S(0));  // exp of the lowest number saturates just above 0
    mask_row(ds, visible(q0 + r, k0, s.window), S(0));
  }
}

// dk, dv: this head's share, fp32 [tokens][pitch].
template <class V, class T>
void backward_unit(const AttentionBackwardArgs& args, int64_t sequence, int64_t head,
                   BackwardScratch<typename V::Scalar> w, typename V::Scalar* dk, typename V::Scalar* dv) {
  using S = typename V::Scalar;
  const AttentionShape& s = args.shape;
  const int64_t begin = args.cu_seqlens.ptr<const int32_t>()[sequence], d = s.head_dim, pitch = padded_dim(s);
  const int64_t length = args.cu_seqlens.ptr<const int32_t>()[sequence + 1] - begin;
  const int64_t kv = head / (s.heads / s.kv_heads);
  const auto at = [&](const TensorView& x, int64_t h) { return x.ptr<const T>() + begin * x.row_stride() + h * d; };
  transpose(at(args.k, kv), args.k.row_stride(), length, d, w.kt);
  transpose(at(args.v, kv), args.v.row_stride(), length, d, w.vt);
  widen<V>(at(args.k, kv), args.k.row_stride(), length, d, pitch, S(1), w.k);
  for (int64_t row = length; row < blocks(length, kK) * kK; ++row)
    for (int64_t i = 0; i < pitch; ++i) w.k[row * pitch + i] = 0;
  widen<V>(at(args.q, head), args.q.row_stride(), length, d, pitch, S(1), w.q);
  widen<V>(at(args.dout, head), args.dout.row_stride(), length, d, pitch, S(1), w.dout);
  std::memset(w.dq, 0, static_cast<size_t>(length * pitch) * sizeof(S));
  for (int64_t t = 0; t < length; ++t) {  // delta = sum(dout * out) of the row
    V dot = V::zero();
    const T* out = at(args.out, head) + t * args.out.row_stride();
    for_lanes<V>(d, [&](int64_t i, int64_t n) { dot = V::fma(V::load_n(w.dout + t * pitch + i, n), V::load_n(out + i, n), dot); });
    w.delta[t] = dot.sum();
  }
  const S* lse = args.lse.ptr<const S>() + head * args.lse.dims[1] + begin;

  for (int64_t k0 = 0; k0 < length; k0 += kK) {
    const int64_t keys = length - k0 < kK ? length - k0 : kK;
    S *dk_block = dk + (begin + k0) * pitch, *dv_block = dv + (begin + k0) * pitch;
    std::memset(dk_block, 0, static_cast<size_t>(keys * pitch) * sizeof(S));
    std::memset(dv_block, 0, static_cast<size_t>(keys * pitch) * sizeof(S));
    const int64_t last_query = s.window > 0 && k0 + keys + s.window - 1 < length ? k0 + keys + s.window - 1 : length;
    for (int64_t q0 = k0; q0 < last_query; q0 += kQ) {
      const int64_t rows = length - q0 < kQ ? length - q0 : kQ;
      product<V, false>(w.q + q0 * pitch, pitch, 1, w.kt + k0 * d, kK, w.p, kK, rows, kK, d);
      for (int64_t i = 0; i < rows * kK; i += V::kLanes) (V::load(w.p + i) * V::set(S(s.scale))).store(w.p + i);
      product<V, false>(w.dout + q0 * pitch, pitch, 1, w.vt + k0 * d, kK, w.ds, kK, rows, kK, d);
      score_gradients<V>(w, lse, q0, k0, rows, s);
      product<V, true>(w.p, 1, kK, w.dout + q0 * pitch, pitch, dv_block, pitch, keys, pitch, rows);
      product<V, true>(w.ds, 1, kK, w.q + q0 * pitch, pitch, dk_block, pitch, keys, pitch, rows);
      product<V, true>(w.ds, kK, 1, w.k + k0 * pitch, pitch, w.dq + q0 * pitch, pitch, rows, pitch, kK);
    }
  }
  for (int64_t t = 0; t < length; ++t) {
    T* dq = args.dq.ptr<T>() + (begin + t) * args.dq.row_stride() + head * d;
    for_lanes<V>(d, [&](int64_t i, int64_t n) { V::load_n(w.dq + t * pitch + i, n).store_n(dq + i, n); });
  }
}

// Adds the shares of the heads that read one key-value head, in order.
template <class V, class T>
void sum_heads(const AttentionShape& s, const typename V::Scalar* shares, int64_t tokens, int64_t token, const TensorView& out) {
  const int64_t d = s.head_dim, pitch = padded_dim(s), group = s.heads / s.kv_heads;
  for (int64_t kv = 0; kv < s.kv_heads; ++kv)
    for_lanes<V>(d, [&](int64_t i, int64_t n) {
      V sum = V::zero();
      for (int64_t g = 0; g < group; ++g) sum = sum + V::load_n(shares + ((kv * group + g) * tokens + token) * pitch + i, n);
      sum.store_n(out.ptr<T>() + token * out.row_stride() + kv * d + i, n);
    });
}

void backward(KernelContext& context, const AttentionBackwardArgs& args) {
  for_float_type(args.q.dtype, [&]<class V, class T>(V, T) {
    using S = typename V::Scalar;
    const AttentionShape& s = args.shape;
    const int64_t tokens = args.q.dims[0], pitch = padded_dim(s), count = sequences_of(args.cu_seqlens, args.sequences);
    const size_t each = BackwardScratch<S>::elements(tokens, pitch);
    S* dk = reinterpret_cast<S*>(context.workspace.data());
    S* dv = dk + s.heads * tokens * pitch;
    S* scratch = dv + s.heads * tokens * pitch;
    for_units(context, count * s.heads, [&](int64_t unit, int thread) {
      const int64_t head = unit % s.heads, share = head * tokens * pitch;
      const BackwardScratch<S> own(scratch + static_cast<size_t>(thread) * each, tokens, pitch);
      backward_unit<V, T>(args, unit / s.heads, head, own, dk + share, dv + share);
    });
    context.team.for_each(args.cu_seqlens.ptr<const int32_t>()[count], [&](int64_t token) {
      sum_heads<V, T>(s, dk, tokens, token, args.dk);
      sum_heads<V, T>(s, dv, tokens, token, args.dv);
    }, 16);
  });
}

size_t backward_workspace(const AttentionBackwardArgs& args, int threads) {
  const size_t element = args.q.dtype == DType::kF64 ? 8 : 4;
  const int64_t tokens = args.q.dims[0], pitch = padded_dim(args.shape);
  const size_t shares = static_cast<size_t>(2 * args.shape.heads * tokens * pitch);
  return (shares + BackwardScratch<float>::elements(tokens, pitch) * static_cast<size_t>(threads)) * element;
}

const CpuKernel<AttentionArgs> kForward{kAttention, kIsa, &forward, &forward_workspace};
const CpuKernel<AttentionBackwardArgs> kBackward{kAttentionBackward, kIsa, &backward, &backward_workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA
