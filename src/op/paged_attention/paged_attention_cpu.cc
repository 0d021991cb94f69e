// Decode is bound by reading the cache once (2 head_dim elements a key and kv head), prefill by arithmetic (4
// head_dim flops a visible pair and head).
//
// The rows of all heads that share a kv head are one block, so that a page is read once for them. Keys are
// cut into chunks of kChunk at fixed positions. A chunk gives a row its own maximum, sum and mix of values;
// these are combined in the order of chunks. Where a block is one token, its chunks are tasks of their own,
// so that one long context keeps all threads busy: their results wait in slots, and waves of kSlots tasks
// bound the memory for them.
#include "base/check.h"
#include "kernel/units.h"
#include "op/paged_attention/page_products.h"
#include "op/paged_attention/paged_attention.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

constexpr int64_t kRows = 24, kChunk = 256, kSlots = 512;
constexpr int64_t kChunkPages = kChunk / kPageTokens;

template <class S>
constexpr S kLowest = static_cast<S>(-1e30);

int64_t ceil_div(int64_t n, int64_t size) { return (n + size - 1) / size; }

// How the work is cut; from the shape and this call's lengths.
struct Cut {
  const PagedAttentionArgs& args;
  int64_t sequences;
  int64_t group, heads, head_blocks, tokens, pitch;  // heads and tokens of a block

  Cut(const PagedAttentionArgs& a, int64_t live) : args(a), sequences(live) {
    group = a.shape.heads / a.shape.kv_heads;
    heads = group < kRows ? group : kRows;
    head_blocks = ceil_div(group, heads);
    tokens = kRows / heads;
    pitch = ceil_div(a.shape.head_dim, kPageTokens) * kPageTokens;
  }
  int64_t queries(int64_t s) const {
    const auto* ends = args.cu_seqlens.ptr<const int32_t>();
    return ends[s + 1] - ends[s];
  }
  int64_t context(int64_t s) const { return args.context_lens.ptr<const int32_t>()[s]; }
  // First key that a query at `position` sees.
  int64_t low(int64_t position) const {
    const int64_t key = args.shape.window > 0 ? position - args.shape.window + 1 : 0;
    return key > 0 ? key : 0;
  }
  int64_t first_chunk(int64_t s) const { return low(context(s) - 1) / kChunk; }  // of a decoding sequence
  int64_t chunks(int64_t s) const { return ceil_div(context(s), kChunk) - first_chunk(s); }
  int64_t decode_tasks(int64_t s) const {
    return queries(s) == 1 ? args.shape.kv_heads * head_blocks * chunks(s) : 0;
  }
  int64_t prefill_tasks(int64_t s) const {
    return queries(s) > 1 ? args.shape.kv_heads * head_blocks * ceil_div(queries(s), tokens) : 0;
  }
};

// The rows of one block: tokens [token, token + tokens) of a sequence, heads [head, head + heads) of one kv
// head.
struct Block {
  int64_t sequence, kv, head, heads, token, tokens;
  int64_t rows() const { return heads * tokens; }
};

Block block_of(const Cut& cut, int64_t sequence,
               int64_t index) {  // index: token block, then head block, then kv head
  const int64_t token_blocks = ceil_div(cut.queries(sequence), cut.tokens),
                per_kv = token_blocks * cut.head_blocks;
  const int64_t kv = index / per_kv, first = index / token_blocks % cut.head_blocks * cut.heads;
  const int64_t token = (token_blocks - 1 - index % token_blocks) * cut.tokens;  // the longest first
  const int64_t left = cut.group - first, queries = cut.queries(sequence) - token;
  return {sequence,
          kv,
          kv * cut.group + first,
          left < cut.heads ? left : cut.heads,
          token,
          queries < cut.tokens ? queries : cut.tokens};
}

// Softmax of some keys, unfinished: mix is the sum of exp(score - maximum) * value.
template <class S>
struct Part {
  S *maximum, *sum, *mix;
  static int64_t elements(int64_t rows, int64_t pitch) { return rows * (pitch + 2); }
  Part(S* base, int64_t rows) : maximum(base), sum(base + rows), mix(base + 2 * rows) {}
};

// Turns the scores of keys [begin, end) of a chunk into exp(score - maximum), all others below `limit` into
// 0. Not inlined: one body for every caller keeps the order and contraction of its operations.
template <class V>
[[gnu::noinline]] void softmax_row(typename V::Scalar* scores, int64_t begin, int64_t end, int64_t limit,
                                   typename V::Scalar* maximum, typename V::Scalar* sum) {
  using S = typename V::Scalar;
  const int64_t padded = ceil_div(limit, kPageTokens) * kPageTokens;
  *maximum = kLowest<S>, *sum = 0;
  if (begin >= end) {
    for (int64_t j = 0; j < padded; ++j) scores[j] = 0;
    return;
  }
  const int64_t first = begin / kPageTokens * kPageTokens, last = ceil_div(end, kPageTokens) * kPageTokens;
  for (int64_t j = first; j < begin; ++j) scores[j] = kLowest<S>;
  for (int64_t j = end; j < last; ++j) scores[j] = kLowest<S>;
  V high = V::load(scores + first);
  for (int64_t j = first; j < last; j += V::kLanes) high = V::max(high, V::load(scores + j));
  *maximum = high.highest();
  const V shift = V::set(*maximum);
  for (int64_t j = first; j < last; j += V::kLanes) V::exp(V::load(scores + j) - shift).store(scores + j);
  for (int64_t j = 0; j < begin; ++j) scores[j] = 0;
  for (int64_t j = end; j < padded; ++j) scores[j] = 0;
  V total = V::zero();
  for (int64_t j = first; j < last; j += V::kLanes) total = total + V::load(scores + j);
  *sum = total.sum();
}

template <class V>
[[gnu::noinline]] void combine(Part<typename V::Scalar> into, Part<typename V::Scalar> from, int64_t rows,
                               int64_t pitch) {
  using S = typename V::Scalar;
  for (int64_t r = 0; r < rows; ++r) {
    if (from.maximum[r] == kLowest<S>) continue;
    const S top = into.maximum[r] > from.maximum[r] ? into.maximum[r] : from.maximum[r];
    const S old = into.maximum[r] == kLowest<S> ? S(0) : V::exp(V::set(into.maximum[r] - top)).highest();
    const S now = V::exp(V::set(from.maximum[r] - top)).highest();
    into.maximum[r] = top;
    into.sum[r] = into.sum[r] * old + from.sum[r] * now;
    S *a = into.mix + r * pitch, *b = from.mix + r * pitch;
    for (int64_t i = 0; i < pitch; i += V::kLanes)
      V::fma(V::load(a + i), V::set(old), V::load(b + i) * V::set(now)).store(a + i);
  }
}

template <class V, class T>
void finish(const Cut& cut, const Block& block, Part<typename V::Scalar> part) {
  using S = typename V::Scalar;
  const PagedAttentionArgs& args = cut.args;
  const int64_t d = args.shape.head_dim,
                first = args.cu_seqlens.ptr<const int32_t>()[block.sequence] + block.token;
  for (int64_t r = 0; r < block.rows(); ++r) {
    T* out = args.out.ptr<T>() + (first + r / block.heads) * args.out.row_stride() +
             (block.head + r % block.heads) * d;
    const V inverse = V::set(S(1) / part.sum[r]);
    for_lanes<V>(d, [&](int64_t i, int64_t n) {
      (V::load_n(part.mix + r * cut.pitch + i, n) * inverse).store_n(out + i, n);
    });
  }
}

// One thread's memory.
template <class S>
struct Scratch {
  S *q, *scores;
  Part<S> total, part;
  static int64_t elements(int64_t d, int64_t pitch) {
    return ceil_div(kRows * (d + kChunk) + 2 * Part<S>::elements(kRows, pitch), 16) * 16;
  }
  Scratch(S* base, int64_t d, int64_t pitch)
      : q(base),
        scores(base + kRows * d),
        total(scores + kRows * kChunk, kRows),
        part(scores + kRows * kChunk + Part<S>::elements(kRows, pitch), kRows) {}
};

template <class V, class T>
void gather_queries(const Cut& cut, const Block& block, typename V::Scalar* q) {
  const PagedAttentionArgs& args = cut.args;
  const int64_t d = args.shape.head_dim,
                first = args.cu_seqlens.ptr<const int32_t>()[block.sequence] + block.token;
  const V scale = V::set(static_cast<typename V::Scalar>(args.shape.scale));
  for (int64_t r = 0; r < block.rows(); ++r, q += d) {
    const T* x = args.q.ptr<const T>() + (first + r / block.heads) * args.q.row_stride() +
                 (block.head + r % block.heads) * d;
    for_lanes<V>(d, [&](int64_t i, int64_t n) { (V::load_n(x + i, n) * scale).store_n(q + i, n); });
  }
}

// What chunk `chunk` of the keys gives the rows of a block.
template <class V, class C>
void attend_chunk(const Cut& cut, const Block& block, int64_t chunk, Scratch<typename V::Scalar> w,
                  Part<typename V::Scalar> part) {
  const PagedAttentionArgs& args = cut.args;
  const int64_t d = args.shape.head_dim, rows = block.rows(), origin = chunk * kChunk;
  const int64_t position =
      cut.context(block.sequence) - cut.queries(block.sequence) + block.token;  // of the first token
  const auto inside = [&](int64_t key) {
    return key < origin ? 0 : key - origin < kChunk ? key - origin : kChunk;
  };
  const int64_t begin = inside(cut.low(position)), end = inside(position + block.tokens);
  const int64_t first_page = begin / kPageTokens, last_page = ceil_div(end, kPageTokens);

  const C *k[kChunkPages + kPagesAhead], *v[kChunkPages];
  const int32_t* table = args.block_tables.ptr<const int32_t>() + block.sequence * args.block_tables.dim(1) +
                         chunk * kChunkPages;
  for (int64_t p = first_page; p < last_page; ++p) {
    const int64_t page = table[p];
    FLAGSCALE_CHECK(page >= 0 && page < args.k_pages.dim(0));
    const auto head = [&](const In& pages) {
      return pages.ptr<const C>() + page * pages.row_stride() +
             block.kv * (pages.cols() / args.shape.kv_heads);
    };
    k[p] = head(args.k_pages);
    v[p] = head(args.v_pages);
  }
  for (int64_t p = last_page; p < last_page + kPagesAhead; ++p) k[p] = k[last_page - 1];
  for_row_tiles(rows, [&]<int kTile>(int64_t r) {
    score_rows<V, C, kTile>(w.q + r * d, d, k, v, first_page, last_page, w.scores + r * kChunk, kChunk);
  });
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t query = position + r / block.heads;
    softmax_row<V>(w.scores + r * kChunk, inside(cut.low(query)), inside(query + 1), end, part.maximum + r,
                   part.sum + r);
    if constexpr (kScaled<C>)
      scale_weights<V>(w.scores + r * kChunk, v, cut.pitch, first_page * kPageTokens, end);
  }
  for_row_tiles(rows, [&]<int kTile>(int64_t r) {
    mix_rows<V, C, kTile>(w.scores + r * kChunk, kChunk, v, first_page * kPageTokens, end,
                          part.mix + r * cut.pitch, cut.pitch);
  });
}

// Several tokens: a block walks its chunks itself.
template <class V, class T, class C>
void prefill(const Cut& cut, const Block& block, Scratch<typename V::Scalar> w) {
  const int64_t position = cut.context(block.sequence) - cut.queries(block.sequence) + block.token;
  const int64_t first = cut.low(position) / kChunk, last = ceil_div(position + block.tokens, kChunk);
  gather_queries<V, T>(cut, block, w.q);
  for (int64_t chunk = first; chunk < last; ++chunk) {
    attend_chunk<V, C>(cut, block, chunk, w, chunk == first ? w.total : w.part);
    if (chunk > first) combine<V>(w.total, w.part, block.rows(), cut.pitch);
  }
  finish<V, T>(cut, block, w.total);
}

// One chunk of one block of a decoding sequence.
struct Task {
  Block block;
  int64_t index, count;  // of the block's chunks
};

Task task_of(const Cut& cut, const int64_t* starts, int64_t task) {
  const int64_t s = owner_of(starts, cut.sequences, task), count = cut.chunks(s), index = task - starts[s];
  return {block_of(cut, s, index / count), index % count, count};
}

template <class V, class T, class C>
class Decode {
  using S = typename V::Scalar;

 public:
  // memory: kSlots + 2 parts, then the threads' scratch
  Decode(KernelContext& context, const Cut& cut, const int64_t* starts, S* memory, S* scratch)
      : context_(context), cut_(cut), starts_(starts), memory_(memory), scratch_(scratch) {
    for (int64_t s = 0; s < cut.sequences; ++s) several_ |= cut.queries(s) == 1 && cut.chunks(s) > 1;
  }

  void run() {
    const int64_t n = starts_[cut_.sequences];
    for (int64_t begin = 0, wave = 0; begin < n; begin += kSlots, ++wave) {
      const int64_t size = n - begin < kSlots ? n - begin : kSlots;
      for_units(context_, size, [&](int64_t i, int thread) { attend(begin + i, i, thread); });
      if (several_) for_units(context_, size, [&](int64_t i, int) { gather(begin, i, size, wave); });
    }
  }

 private:
  Part<S> slot(int64_t i) const {
    return {memory_ + i * Part<S>::elements(cut_.heads, cut_.pitch), cut_.heads};
  }
  Part<S> carried(int64_t wave) const { return slot(kSlots + wave % 2); }

  void attend(int64_t index, int64_t i, int thread) {
    const Task task = task_of(cut_, starts_, index);
    const int64_t d = cut_.args.shape.head_dim;
    const Scratch<S> w(scratch_ + thread * Scratch<S>::elements(d, cut_.pitch), d, cut_.pitch);
    gather_queries<V, T>(cut_, task.block, w.q);
    attend_chunk<V, C>(cut_, task.block, cut_.first_chunk(task.block.sequence) + task.index, w, slot(i));
    if (!several_) finish<V, T>(cut_, task.block, slot(i));
  }

  // Combines the parts of the block whose first part in this wave is slot i. A block cut by the wave's end is
  // carried on.
  void gather(int64_t begin, int64_t i, int64_t size, int64_t wave) {
    const Task task = task_of(cut_, starts_, begin + i);
    if (i > 0 && task.index > 0) return;
    const Part<S> total = task.index > 0 ? carried(wave) : slot(i);
    const int64_t left = task.count - task.index, here = left < size - i ? left : size - i,
                  rows = task.block.rows();
    for (int64_t j = task.index > 0 ? 0 : 1; j < here; ++j) combine<V>(total, slot(i + j), rows, cut_.pitch);
    if (here == left) return finish<V, T>(cut_, task.block, total);
    std::memcpy(carried(wave + 1).maximum, total.maximum,
                static_cast<size_t>(Part<S>::elements(cut_.heads, cut_.pitch)) * sizeof(S));
  }

  KernelContext& context_;
  const Cut& cut_;
  const int64_t* starts_;
  S *memory_, *scratch_;
  bool several_ = false;  // some block has more than one chunk
};

// Checks what the engine gave, since pages are followed blindly.
void check(const Cut& cut) {
  FLAGSCALE_CHECK(cut.sequences <= cut.args.context_lens.dims[0]);
  for (int64_t s = 0; s < cut.sequences; ++s)
    FLAGSCALE_CHECK(cut.queries(s) >= 0 && cut.context(s) >= cut.queries(s) &&
                    cut.context(s) <= cut.args.block_tables.dim(1) * kPageTokens);
}

template <class V, class T, class C>
void run_typed(KernelContext& context, const Cut& cut) {
  using S = typename V::Scalar;
  const int64_t capacity = cut.args.context_lens.dims[0] + 1, d = cut.args.shape.head_dim;
  auto* decode = reinterpret_cast<int64_t*>(context.workspace.data());
  int64_t* blocks = decode + capacity;
  S* slots = reinterpret_cast<S*>(context.workspace.data() + ceil_div(2 * capacity, 8) * 64);
  S* scratch = slots + ceil_div((kSlots + 2) * Part<S>::elements(cut.heads, cut.pitch), 16) * 16;
  decode[0] = blocks[0] = 0;
  for (int64_t s = 0; s < cut.sequences; ++s) {
    decode[s + 1] = decode[s] + cut.decode_tasks(s);
    blocks[s + 1] = blocks[s] + cut.prefill_tasks(s);
  }
  if (blocks[cut.sequences] > 0)
    for_units(context, blocks[cut.sequences], [&](int64_t i, int thread) {
      const int64_t s = owner_of(blocks, cut.sequences, i);
      prefill<V, T, C>(cut, block_of(cut, s, i - blocks[s]),
                       {scratch + thread * Scratch<S>::elements(d, cut.pitch), d, cut.pitch});
    });
  Decode<V, T, C>(context, cut, decode, slots, scratch).run();
}

void run(KernelContext& context, const PagedAttentionArgs& args) {
  const Cut cut(args, args.sequences ? *args.sequences : args.context_lens.dims[0]);
  check(cut);
  for_float_type(args.q.dtype, [&]<class V, class T>(V, T) {
    for_cache_type<V>(args.k_pages.dtype, [&]<class C>(C) { run_typed<V, T, C>(context, cut); });
  });
}

size_t workspace(const PagedAttentionArgs& args, int threads) {
  const Cut cut(args, args.context_lens.dims[0]);
  const int64_t d = args.shape.head_dim, size = args.q.dtype == DType::kF64 ? 8 : 4;
  const int64_t slots = ceil_div((kSlots + 2) * Part<float>::elements(cut.heads, cut.pitch), 16) * 16;
  return static_cast<size_t>(ceil_div(2 * (args.context_lens.dims[0] + 1), 8) * 64 +
                             (slots + threads * Scratch<float>::elements(d, cut.pitch)) * size);
}

const CpuKernel<PagedAttentionArgs> kKernel{kPagedAttention, kIsa, &run, &workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
