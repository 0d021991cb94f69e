// A unit of work is one block of keys of one sequence and kv head: it walks the heads that share the kv head
// and the queries that see the block, forms P and dS again, and keeps its dk and dv in cache. dq of a block
// of queries is summed over blocks of keys in their order: a unit waits until the one before it has added its
// share. Units are started in order, so what a unit waits for is always under way; with more than one kv head
// or sequence waiting is rare. (Keeping a share of dq for every block of keys, or of dk for every head, takes
// memory; a pass of its own for dq takes 7 products instead of 5.) Bound by arithmetic: 10 head_dim flops a
// visible pair.
#include <sched.h>

#include "op/attention/attention_blocks.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

template <class S>
struct Scratch {  // one thread's
  S *kt, *vt, *k, *dk, *dv, *p, *ds;
  S *q, *dout, *ds_along;                            // packed along
  S *q_across, *dout_across, *p_across, *ds_across;  // where that is the same thing: the ones above
  static int64_t elements(int64_t pitch) { return kBlock * (9 * pitch + 5 * kBlock); }
  Scratch(S* base, int64_t pitch, bool paired) {
    const int64_t size = kBlock * pitch, square = kBlock * kBlock;
    kt = base, vt = kt + size, k = vt + size, dk = k + size, dv = dk + size, q = dv + size, dout = q + size;
    p = dout + size, ds = p + square;
    S* more = ds + square;
    ds_along = paired ? more : ds, p_across = paired ? more + square : p,
    ds_across = paired ? more + 2 * square : ds;
    q_across = paired ? more + 3 * square : q, dout_across = paired ? q_across + size : dout;
  }
};

// Where the parts of the workspace begin, in bytes.
struct Room {
  int64_t turns, delta, dq, scratch, end;
  Room(const AttentionBackwardArgs& args, int threads) {
    const int64_t element = args.q.dtype == DType::kF64 ? 8 : 4, pitch = padded_dim(args.shape),
                  heads = args.shape.heads;
    const int64_t sequences = args.cu_seqlens.dims[0], tokens = args.q.dims[0];
    const auto after = [](int64_t begin, int64_t bytes) { return begin + ceil_div(bytes, 64) * 64; };
    turns = after(0, sequences * 8);
    delta = after(turns, heads * (tokens / kBlock + sequences) * 4);
    dq = after(delta, heads * tokens * element);
    scratch = after(dq, heads * tokens * pitch * element);
    end = after(scratch, threads * Scratch<float>::elements(pitch) * element);
  }
};

template <class V, class T, class F>
class Backward {
  using S = typename V::Scalar;
  static constexpr bool kPaired = F::kElements > 1;

 public:
  Backward(KernelContext& context, const AttentionBackwardArgs& args)
      : context_(context),
        args_(args),
        s_(args.shape),
        sequences_(args.cu_seqlens, args.sequences),
        d_(s_.head_dim),
        pitch_(padded_dim(s_)),
        tokens_(args.q.dims[0]) {
    std::byte* memory = context.workspace.data();
    const Room room(args, context.team.size());
    starts_ = reinterpret_cast<int64_t*>(memory);
    turns_ = reinterpret_cast<int32_t*>(memory + room.turns);
    delta_ = reinterpret_cast<S*>(memory + room.delta);
    dq_ = reinterpret_cast<S*>(memory + room.dq);
    scratch_ = reinterpret_cast<S*>(memory + room.scratch);
  }

  void run() {
    sequences_.number(kBlock, 1, starts_);
    blocks_ = starts_[sequences_.count];
    for (int64_t i = 0; i < s_.heads * blocks_; ++i) turns_[i] = 0;
    const int64_t rows = sequences_.ends[sequences_.count];
    context_.team.for_each(rows, [&](int64_t token) { sum_deltas(token); }, 16);
    for_units(context_, blocks_ * s_.kv_heads, [&](int64_t unit, int thread) {
      const int64_t block = unit / s_.kv_heads, sequence = owner_of(starts_, sequences_.count, block);
      key_block(sequence, (block - starts_[sequence]) * kBlock, unit % s_.kv_heads,
                Scratch<S>(scratch_ + thread * Scratch<S>::elements(pitch_), pitch_, kPaired));
    });
    context_.team.for_each(rows, [&](int64_t token) { write_dq(token); }, 16);
  }

 private:
  static T* at(const TensorView& x, int64_t token, int64_t column) {
    return x.ptr<T>() + token * x.row_stride() + column;
  }

  // delta = sum of dout * out over a row: what every dP of the row is lowered by.
  void sum_deltas(int64_t token) {
    for (int64_t head = 0; head < s_.heads; ++head) {
      const T *a = at(args_.dout, token, head * d_), *b = at(args_.out, token, head * d_);
      V dot = V::zero();
      for_lanes<V>(
          d_, [&](int64_t i, int64_t n) { dot = V::fma(V::load_n(a + i, n), V::load_n(b + i, n), dot); });
      delta_[head * tokens_ + token] = dot.sum();
    }
  }

  void write_dq(int64_t token) {
    const V scale = V::set(S(s_.scale));
    for (int64_t head = 0; head < s_.heads; ++head) {
      const S* sum = dq_ + (head * tokens_ + token) * pitch_;
      T* dq = at(args_.dq, token, head * d_);
      for_lanes<V>(d_, [&](int64_t i, int64_t n) { (V::load_n(sum + i, n) * scale).store_n(dq + i, n); });
    }
  }

  void key_block(int64_t sequence, int64_t k0, int64_t kv, Scratch<S> w) {
    const int64_t begin = sequences_.begin(sequence), length = sequences_.length(sequence),
                  keys = at_most(length - k0, kBlock);
    const int64_t group = s_.heads / s_.kv_heads;
    const T *k = at(args_.k, begin + k0, kv * d_), *v = at(args_.v, begin + k0, kv * d_);
    F::transposed(k, args_.k.row_stride(), keys, d_, kBlock, w.kt);
    F::transposed(v, args_.v.row_stride(), keys, d_, kBlock, w.vt);
    F::across(k, args_.k.row_stride(), keys, kBlock, d_, pitch_, w.k);
    for (S* sum : {w.dk, w.dv}) std::memset(sum, 0, static_cast<size_t>(kBlock * pitch_) * sizeof(S));

    const int64_t end = s_.window > 0 ? at_most(length, k0 + keys + s_.window - 1) : length;
    for (int64_t head = kv * group; head < (kv + 1) * group; ++head)
      for (int64_t q0 = k0; q0 < end; q0 += kBlock) {
        const int64_t rows = at_most(length - q0, kBlock);
        query_block(begin, head, q0, rows, k0, w, turns_ + head * blocks_ + starts_[sequence] + q0 / kBlock);
        add_key_gradients(q0, rows, k0, keys, w);
      }
    const V scale = V::set(S(s_.scale));
    for (int64_t j = 0; j < keys; ++j) {
      T *dk = at(args_.dk, begin + k0 + j, kv * d_), *dv = at(args_.dv, begin + k0 + j, kv * d_);
      for_lanes<V>(d_, [&](int64_t i, int64_t n) {
        (V::load_n(w.dk + j * pitch_ + i, n) * scale).store_n(dk + i, n);
        V::load_n(w.dv + j * pitch_ + i, n).store_n(dv + i, n);
      });
    }
  }

  void pack_queries(int64_t token, int64_t head, int64_t rows, Scratch<S> w) {
    const T *q = at(args_.q, token, head * d_), *dout = at(args_.dout, token, head * d_);
    F::along(q, args_.q.row_stride(), rows, d_, pitch_, w.q);
    F::along(dout, args_.dout.row_stride(), rows, d_, pitch_, w.dout);
    if constexpr (kPaired) {
      const int64_t padded = ceil_div(rows, F::kElements) * F::kElements;
      F::across(q, args_.q.row_stride(), rows, padded, d_, pitch_, w.q_across);
      F::across(dout, args_.dout.row_stride(), rows, padded, d_, pitch_, w.dout_across);
    }
  }

  // P and dS of the queries [q0, q0 + rows) of a head against a block of keys, and their share of dq.
  void query_block(int64_t begin, int64_t head, int64_t q0, int64_t rows, int64_t k0, Scratch<S> w,
                   int32_t* turn) {
    pack_queries(begin + q0, head, rows, w);
    const S* lse = args_.lse.ptr<const S>() + head * args_.lse.dims[1] + begin + q0;
    const S* delta = delta_ + head * tokens_ + begin + q0;
    for (int64_t r = 0; r < rows; r += kStrip) {
      const int64_t n = at_most(rows - r, kStrip), depth = ceil_div(d_, F::kElements);
      const Columns c = strip_columns(q0 + r, n, k0, s_.window);
      S *p = w.p + r * kBlock, *ds = w.ds + r * kBlock;
      if (c.begin > 0 ||
          c.end == 0)  // key gradients skip what is after a query, not what is before its window
        for (S* x : {p, ds}) std::memset(x, 0, static_cast<size_t>(n * kBlock) * sizeof(S));
      if (c.end == 0) continue;
      const int64_t width = c.end - c.begin;
      product<V, false, F>(w.q + r * pitch_, pitch_, 1, w.kt + c.begin, kBlock, p + c.begin, kBlock, n, width,
                           depth);
      product<V, false, F>(w.dout + r * pitch_, pitch_, 1, w.vt + c.begin, kBlock, ds + c.begin, kBlock, n,
                           width, depth);
      for (int64_t i = 0; i < n; ++i) {
        score_gradients(p + i * kBlock, ds + i * kBlock, c, visible(q0 + r + i, k0, s_.window), lse[r + i],
                        delta[r + i]);
        if constexpr (kPaired) F::along_row(ds + i * kBlock, c.begin, c.end, w.ds_along + (r + i) * kBlock);
      }
    }
    if constexpr (kPaired) {
      F::across_rows(w.p, rows, kBlock, w.p_across);
      F::across_rows(w.ds, rows, kBlock, w.ds_across);
    }
    add_dq(dq_ + (head * tokens_ + begin + q0) * pitch_, q0, rows, k0, w, turn);
  }

  // Of one row: raw scores and dP in, P and dS out.
  void score_gradients(S* p, S* ds, Columns computed, Columns seen, S lse, S delta) const {
    const V scale = V::set(S(s_.scale)), shift = V::set(-lse), lowered = V::set(delta);
    for (int64_t j = computed.begin; j < computed.end; j += V::kLanes) {
      const V probability = V::exp(V::fma(V::load(p + j), scale, shift));
      probability.store(p + j);
      (probability * (V::load(ds + j) - lowered)).store(ds + j);
    }
    for (int64_t j = computed.begin; j < seen.begin; ++j) p[j] = ds[j] = 0;
    for (int64_t j = seen.end; j < computed.end; ++j) p[j] = ds[j] = 0;
  }

  // Adds this block's share once all blocks of keys before it have added theirs.
  void add_dq(S* dq, int64_t q0, int64_t rows, int64_t k0, Scratch<S> w, int32_t* turn) {
    const auto mine = static_cast<int32_t>(k0 / kBlock - first_block(q0, s_.window));
    for (int spins = 0; __atomic_load_n(turn, __ATOMIC_ACQUIRE) != mine; ++spins)
      if (spins < 256)
        _mm_pause();
      else
        sched_yield();
    if (mine == 0) std::memset(dq, 0, static_cast<size_t>(rows * pitch_) * sizeof(S));
    for (int64_t r = 0; r < rows; r += kStrip) {
      const int64_t n = at_most(rows - r, kStrip);
      const Columns c = strip_columns(q0 + r, n, k0, s_.window);
      const int64_t first = c.begin / F::kElements, depth = (c.end - c.begin) / F::kElements;
      product<V, true, F>(w.ds_along + r * kBlock + first, kBlock, 1, w.k + first * pitch_, pitch_,
                          dq + r * pitch_, pitch_, n, pitch_, depth);
    }
    __atomic_store_n(turn, mine + 1, __ATOMIC_RELEASE);
  }

  // dv += P^T dout, dk += dS^T q, from the first query that sees a strip of keys (strips begin on whole
  // pairs).
  void add_key_gradients(int64_t q0, int64_t rows, int64_t k0, int64_t keys, Scratch<S> w) {
    static_assert(kStrip % F::kElements == 0);
    for (int64_t j = 0; j < keys; j += kStrip) {
      const int64_t n = at_most(keys - j, kStrip), first = (k0 + j > q0 ? k0 + j - q0 : 0) / F::kElements;
      const int64_t depth = ceil_div(rows, F::kElements) - first;
      const S *p = w.p_across + first * kBlock + j, *ds = w.ds_across + first * kBlock + j;
      product<V, true, F>(p, 1, kBlock, w.dout_across + first * pitch_, pitch_, w.dv + j * pitch_, pitch_, n,
                          pitch_, depth);
      product<V, true, F>(ds, 1, kBlock, w.q_across + first * pitch_, pitch_, w.dk + j * pitch_, pitch_, n,
                          pitch_, depth);
    }
  }

  KernelContext& context_;
  const AttentionBackwardArgs& args_;
  const AttentionShape s_;
  const Sequences sequences_;
  const int64_t d_, pitch_, tokens_;
  int64_t* starts_;
  int32_t* turns_;  // [heads][blocks of queries]: how many blocks of keys have added to its dq
  S *delta_, *dq_, *scratch_;
  int64_t blocks_ = 0;
};

void run(KernelContext& context, const AttentionBackwardArgs& args) {
  const bool pairs =
      args.shape.head_dim % 2 == 0 && even(args.q) && even(args.k) && even(args.v) && even(args.dout);
  for_factors(args.q.dtype, pairs,
              [&]<class V, class T, class F>(V, T, F) { Backward<V, T, F>(context, args).run(); });
  turn_back(context, args);
}

size_t workspace(const AttentionBackwardArgs& args, int threads) {
  return static_cast<size_t>(Room(args, threads).end);
}

const CpuKernel<AttentionBackwardArgs> kKernel{kAttentionBackward, kIsa, &run, &workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
