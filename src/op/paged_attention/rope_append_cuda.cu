// Bound by memory: q, k and v are read once, the rotated q and the cache's slots written once. Of few tokens,
// and of sizes that do not fit, a warp has a head of a token; of many a block has a head of kTokens
// neighbours, which mostly lie side by side in a page.
#include "op/paged_attention/paged_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kMostDim = 512;  // as the op's
constexpr int kWarps = 4;
constexpr int64_t kFewTokens = 32;
constexpr int kTokens = static_cast<int>(kPageTokens), kHeads = 4;  // of a block; of q

template <class T, class C>
struct Append {
  Rows<const T> q, k, v;
  Rows<T> rotated;
  Rows<C> k_pages, v_pages;
  const int32_t *positions, *slots;
  const float *cos, *sin;
  int64_t half, pitch, heads, kv_heads, last;  // last: row of the tables
  bool interleaved;
};

// Where a line of a token lies in a page: number i of it at first + i * step, of an int8 one its scale at
// scale.
template <class C>
struct Line {
  C* first;
  int64_t step;
  float* scale;
};

// A head's scales follow its elements.
template <class C>
__device__ float* scale_at(C* head, int64_t elements, int64_t token) {
  return kScaled<C> ? reinterpret_cast<float*>(head + elements) + token : nullptr;
}

// What turns together, p and r, by an angle's cosine c and sine s: in every kernel the same bits.
struct Turned {
  float first, second;
  __device__ Turned(float p, float r, float c, float s) {
    first = __fmaf_rn(p, c, -__fmul_rn(r, s));
    second = __fmaf_rn(r, c, __fmul_rn(p, s));
  }
};

// Of an int8 line whose largest magnitude is `most`.
struct LineScale {
  float scale, inverse;
  __device__ explicit LineScale(float most) {
    scale = __fdiv_rn(most, 127.f);
    inverse = scale > 1e-30f ? __frcp_rn(scale) : 0;
  }
  __device__ int8_t operator()(float x) const {
    return static_cast<int8_t>(__float2int_rn(__fmul_rn(x, inverse)));
  }
};

// x[0, size) of the warp's lanes to its line: in int8 by max |x| / 127, as on a CPU.
template <class C>
__device__ void put_line(const Line<C>& to, const float* x, int size, int lane) {
  __syncwarp();
  if constexpr (!kScaled<C>) {
    for (int i = lane; i < size; i += 32) put(to.first + i * to.step, x[i]);
  } else {
    float most = 0;
    for (int i = lane; i < size; i += 32) most = fmaxf(most, fabsf(x[i]));
#pragma unroll
    for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
    const LineScale scale(most);
    for (int i = lane; i < size; i += 32) to.first[i * to.step] = scale(x[i]);
    if (lane == 0) *to.scale = scale.scale;
  }
}

__device__ void ask_for(const float* p) { asm volatile("prefetch.global.L1 [%0];" ::"l"(p)); }

// Where cos and sin of a token begin.
template <class T, class C>
__device__ int64_t turn_of(const Append<T, C>& a, int64_t token) {
  const int64_t wanted = a.positions[token];
  return (wanted < 0 ? 0 : wanted > a.last ? a.last : wanted) * a.half;
}
// The two numbers of a head that turn together.
template <class T, class C>
__device__ int64_t first_of(const Append<T, C>& a, int64_t j) {
  return a.interleaved ? 2 * j : j;
}
template <class T, class C>
__device__ int64_t second_of(const Append<T, C>& a, int64_t j) {
  return a.interleaved ? 2 * j + 1 : j + a.half;
}

template <class T, class C>
__device__ void rotate_head(const Append<T, C>& a, int64_t token, int64_t head, int64_t turn, int lane) {
  const int64_t d = 2 * a.half;
  const T* x = a.q[token] + head * d;
  T* y = a.rotated[token] + head * d;
  for (int64_t j = lane; j < a.half; j += 32) {
    const int64_t first = first_of(a, j), second = second_of(a, j);
    const Turned turned(as_float(x[first]), as_float(x[second]), a.cos[turn + j], a.sin[turn + j]);
    put(y + first, turned.first);
    put(y + second, turned.second);
  }
}

template <class T, class C>
__global__ void __launch_bounds__(kWarps * 32) append_heads(Append<T, C> a) {
  let_next_start();
  __shared__ float lines[kWarps][kMostDim];
  constexpr int64_t kScales = kScaled<C> ? int64_t{sizeof(float)} * kPageTokens : 0;  // elements of a head
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t token = blockIdx.x;
  int64_t head = int64_t{blockIdx.y} * kWarps + warp;
  // Where a token is comes with a step's inputs, before its first kernel.
  const int64_t turn = turn_of(a, token), slot = a.slots[token];
  for (int64_t j = lane; j < a.half; j += 32) ask_for(a.cos + turn + j), ask_for(a.sin + turn + j);
  wait_for_previous();
  if (head < a.heads) return rotate_head(a, token, head, turn, lane);
  head -= a.heads;
  const int64_t d = 2 * a.half, page = slot / kPageTokens, offset = slot % kPageTokens;
  if (slot < 0 || head >= 2 * a.kv_heads) return;
  float* line = lines[warp];
  if (head >= a.kv_heads) {
    head -= a.kv_heads;
    C* to = a.v_pages[page] + head * (kPageTokens * a.pitch + kScales);
    for (int64_t i = lane; i < a.pitch; i += 32) line[i] = i < d ? as_float(a.v[token][head * d + i]) : 0.f;
    return put_line(Line<C>{to + offset * a.pitch, 1, scale_at(to, kPageTokens * a.pitch, offset)}, line,
                    static_cast<int>(a.pitch), lane);
  }
  const T* x = a.k[token] + head * d;
  for (int64_t j = lane; j < a.half; j += 32) {
    const int64_t first = first_of(a, j), second = second_of(a, j);
    const Turned turned(as_float(x[first]), as_float(x[second]), a.cos[turn + j], a.sin[turn + j]);
    line[first] = turned.first;
    line[second] = turned.second;
  }
  C* to = a.k_pages[page] + head * (d * kPageTokens + kScales);
  put_line(Line<C>{to + offset, kPageTokens, scale_at(to, d * kPageTokens, offset)}, line,
           static_cast<int>(d), lane);
}

// Four neighbours of each half of a head, which kLanes lanes have.
template <class T>
struct Halves {
  Pack<4, T> x[2];
  __device__ void read(const T* head, int lane, int64_t half) {
    x[0] = *reinterpret_cast<const Pack<4, T>*>(head + lane * 4);
    x[1] = *reinterpret_cast<const Pack<4, T>*>(head + half + lane * 4);
  }
};

// Of those neighbours cosine and sine, and what they turn.
struct Turn {
  float c[4], s[4];
  __device__ void read(const float* cos, const float* sin) { load(cos, c), load(sin, s); }
  template <class T>
  __device__ void operator()(const Halves<T>& from, float (&to)[2][4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Turned turned(as_float(from.x[0].at[i]), as_float(from.x[1].at[i]), c[i], s[i]);
      to[0][i] = turned.first, to[1][i] = turned.second;
    }
  }
};

// The tokens of a block, a thread's at(i).
template <int kLanes>
struct TokensOfBlock {
  static constexpr int kAtOnce = kWarps * 32 / kLanes, kTurns = kTokens / kAtOnce, kDim = 8 * kLanes;
  int64_t first, tokens;
  int lane;
  __device__ explicit TokensOfBlock(int64_t all)
      : first(int64_t{blockIdx.x} * kTokens), tokens(all), lane(static_cast<int>(threadIdx.x) % kLanes) {}
  __device__ int own(int i) const { return i * kAtOnce + static_cast<int>(threadIdx.x) / kLanes; }
  __device__ int64_t there(int i) const { return first + own(i) < tokens ? first + own(i) : tokens - 1; }
};

template <int kLanes, class T, class C>
__device__ void rotate_some(const Append<T, C>& a, const TokensOfBlock<kLanes>& of, int64_t head) {
  using Of = TokensOfBlock<kLanes>;
  Halves<T> halves[Of::kTurns][kHeads];
  Turn turns[Of::kTurns];
#pragma unroll
  for (int i = 0; i < Of::kTurns; ++i) {
    const T* x = a.q[of.there(i)];
#pragma unroll
    for (int h = 0; h < kHeads; ++h)
      if (head + h < a.heads) halves[i][h].read(x + (head + h) * Of::kDim, of.lane, a.half);
    const int64_t turn = turn_of(a, of.there(i)) + of.lane * 4;
    turns[i].read(a.cos + turn, a.sin + turn);
  }
#pragma unroll
  for (int i = 0; i < Of::kTurns; ++i) {
    if (of.first + of.own(i) >= of.tokens) return;
    T* y = a.rotated[of.first + of.own(i)] + of.lane * 4;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (head + h >= a.heads) break;
      float x[2][4];
      turns[i](halves[i][h], x);
      store(y + (head + h) * Of::kDim, x[0]), store(y + (head + h) * Of::kDim + a.half, x[1]);
    }
  }
}

// As a line of the cache has them; *scale is set where its numbers have one.
template <int kLanes, class C>
__device__ void as_line(const float (&x)[2][4], Pack<4, C> (&to)[2], float* scale) {
  if constexpr (!kScaled<C>) {
#pragma unroll
    for (int i = 0; i < 8; ++i) put(&to[i / 4].at[i % 4], x[i / 4][i % 4]);
  } else {
    float most = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) most = fmaxf(most, fabsf(x[i / 4][i % 4]));
#pragma unroll
    for (int step = kLanes / 2; step > 0; step /= 2)
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
    const LineScale rule(most);
#pragma unroll
    for (int i = 0; i < 8; ++i) to[i / 4].at[i % 4] = rule(x[i / 4][i % 4]);
    *scale = rule.scale;
  }
}

// Heads of kTokens tokens, kLanes lanes each: y is one of k, one of v, kHeads of q. Keys, whose numbers lie a
// page's tokens apart, go through shared memory: those of tokens that are neighbours in a page are written
// side by side, of others a token's after another's.
template <int kLanes, class T, class C>
__global__ void __launch_bounds__(kWarps * 32) append_many(Append<T, C> a, int64_t tokens) {
  using Of = TokensOfBlock<kLanes>;
  constexpr int kDim = Of::kDim, kThreads = kWarps * 32;
  constexpr int64_t kElements = int64_t{kDim} * kPageTokens,
                    kHead = kElements + (kScaled<C> ? int64_t{sizeof(float)} * kPageTokens : 0);
  __shared__ C keys[kDim][kTokens];
  __shared__ int64_t slots[kTokens];
  let_next_start();
  wait_for_previous();
  const int thread = static_cast<int>(threadIdx.x);
  const Of of(tokens);
  int64_t head = blockIdx.y;
  if (head >= 2 * a.kv_heads) return rotate_some(a, of, (head - 2 * a.kv_heads) * kHeads);
  const bool is_k = head < a.kv_heads;
  if (!is_k) head -= a.kv_heads;
  const int64_t slot_of_thread =
      thread < kTokens && of.first + thread < tokens ? a.slots[of.first + thread] : -1;
  if (thread < kTokens) slots[thread] = slot_of_thread;
  const int64_t before = __shfl_up_sync(0xffffffffu, slot_of_thread, 1);
  Halves<T> halves[Of::kTurns];
  Turn turns[Of::kTurns];
#pragma unroll
  for (int i = 0; i < Of::kTurns; ++i) {
    halves[i].read((is_k ? a.k : a.v)[of.there(i)] + head * kDim, of.lane, a.half);
    const int64_t turn = turn_of(a, of.there(i)) + of.lane * 4;
    if (is_k) turns[i].read(a.cos + turn, a.sin + turn);
  }
  const auto page_of = [&](int64_t slot) {
    return (is_k ? a.k_pages : a.v_pages)[slot / kPageTokens] + head * kHead;
  };
  const bool apart = __syncthreads_count(thread > 0 && thread < kTokens && slot_of_thread != before + 1) > 1;
#pragma unroll
  for (int i = 0; i < Of::kTurns; ++i) {
    const int own = of.own(i);
    const int64_t slot = slots[own];
    float x[2][4], scale = 0;
    if (is_k) {
      turns[i](halves[i], x);
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j) x[j / 4][j % 4] = as_float(halves[i].x[j / 4].at[j % 4]);
    }
    Pack<4, C> line[2];
    as_line<kLanes>(x, line, &scale);
    if (is_k)
#pragma unroll
      for (int j = 0; j < 8; ++j) keys[of.lane * 4 + j % 4 + j / 4 * (kDim / 2)][own] = line[j / 4].at[j % 4];
    if (slot < 0) continue;
    if (kScaled<C> && of.lane == 0) *scale_at(page_of(slot), kElements, slot % kPageTokens) = scale;
    if (is_k) continue;
    C* to = page_of(slot) + slot % kPageTokens * kDim + of.lane * 4;
    *reinterpret_cast<Pack<4, C>*>(to) = line[0];
    *reinterpret_cast<Pack<4, C>*>(to + kDim / 2) = line[1];
  }
  if (!is_k) return;
  __syncthreads();
#pragma unroll 8
  for (int i = thread; i < kDim * kTokens; i += kThreads) {
    const int own = apart ? i / kDim : i % kTokens, number = apart ? i % kDim : i / kTokens;
    if (const int64_t slot = slots[own]; slot >= 0)
      page_of(slot)[number * kPageTokens + slot % kPageTokens] = keys[number][own];
  }
}

// False where sizes or places do not fit.
template <class T, class C>
bool launch_many(const Append<T, C>& a, const RopeAppendArgs& args, int64_t tokens) {
  if (tokens <= kFewTokens || a.interleaved || a.pitch != 2 * a.half) return false;
  for (const TensorView* view :
       {static_cast<const TensorView*>(&args.q), static_cast<const TensorView*>(&args.k),
        static_cast<const TensorView*>(&args.v), static_cast<const TensorView*>(&args.cos),
        static_cast<const TensorView*>(&args.sin), static_cast<const TensorView*>(&args.rotated),
        static_cast<const TensorView*>(&args.v_pages)})
    if (!wide(*view)) return false;
  const auto launch = [&](void (*kernel)(Append<T, C>, int64_t)) {
    launch_early(kernel,
                 dim3(static_cast<unsigned>(divide_up(tokens, kTokens)),
                      static_cast<unsigned>(divide_up(a.heads, kHeads) + 2 * a.kv_heads)),
                 kWarps * 32, 0, a, tokens);
    return true;
  };
  switch (a.half) {
    case 32:
      return launch(append_many<8, T, C>);
    case 64:
      return launch(append_many<16, T, C>);
    case 128:
      return launch(append_many<32, T, C>);
    default:
      return false;
  }
}

void run(KernelContext&, const RopeAppendArgs& args) {
  const int64_t half = args.cos.cols(), d = 2 * half, tokens = args.q.rows();
  if (tokens == 0) return;
  for_float_type(args.q.dtype, "rope_append", [&]<class T>(T) {
    for_cache_type(args.k_pages.dtype, "rope_append", [&]<class C>(C) {
      const Append<T, C> a{rows_of<const T>(args.q),
                           rows_of<const T>(args.k),
                           rows_of<const T>(args.v),
                           rows_of<T>(args.rotated),
                           rows_of<C>(args.k_pages),
                           rows_of<C>(args.v_pages),
                           args.positions.ptr<const int32_t>(),
                           args.slots.ptr<const int32_t>(),
                           args.cos.ptr<const float>(),
                           args.sin.ptr<const float>(),
                           half,
                           divide_up(d, 16) * 16,
                           args.q.cols() / d,
                           args.k.cols() / d,
                           args.cos.dims[0] - 1,
                           args.interleaved};
      if (launch_many(a, args, tokens)) return;
      launch_early(append_heads<T, C>,
                   dim3(static_cast<unsigned>(tokens),
                        static_cast<unsigned>(divide_up(a.heads + 2 * a.kv_heads, kWarps))),
                   kWarps * 32, 0, a);
    });
  });
  check_launch("rope_append");
}

const CudaKernel<RopeAppendArgs> kKernel{kRopeAppend, &run};

}  // namespace
}  // namespace flagscale::op
