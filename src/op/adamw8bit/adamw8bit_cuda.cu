// A warp decodes a block of 256, eight elements a lane, moves it and encodes it again; the tables lie in
// shared memory. Looking codes up takes about as long as memory does.
#include "op/adamw/step_cuda.cuh"
#include "op/adamw8bit/adamw8bit.h"
#include "op/adamw8bit/dynamic_map.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kLaneElements = static_cast<int>(kStateBlock) / 32;
constexpr int kWarps = kUpdateThreads / 32;

struct Tables {
  DynamicMap map;
  DynamicMagnitudes<1> with_sign;
  DynamicMagnitudes<2> positive;
};
__device__ constexpr Tables kTables{};

template <int kSteps>
__device__ int nearest_magnitude(const DynamicMagnitudes<kSteps>& map, float x) {
  const uint32_t bits = __float_as_uint(x) & 0x7fffffff;
  const float size = __uint_as_float(bits);
  const uint32_t bucket = bits >> map.kShift, above = bucket > map.kFirst ? bucket - map.kFirst : 0;
  int code = map.at_least[above < map.kBuckets ? above : map.kBuckets - 1];
  code += size > map.middle[code];
  code += size > map.middle[code];
  return code;
}

// Keeps the sign of a number that is not 0, as on the CPU.
__device__ uint8_t encode_with_sign(const Tables& tables, float x) {
  const int magnitude = nearest_magnitude(tables.with_sign, x);
  const int below = min(max(magnitude, 1), 127);
  return static_cast<uint8_t>(127 + (x < 0 ? -below : magnitude));
}

__device__ float warp_highest(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}

struct Update {
  float* param;
  uint8_t *m, *v;
  float *m_scale, *v_scale;
  const float *grad, *norm;
  bf16* copy;
  const StepScalars* step;
  int64_t size;
  float beta1, beta2, eps;
  bool decay, wide;
};

// Elements of a lane: eight neighbours where they may be read at a time, else every 32nd.
template <bool kPacked, class T>
__device__ void take(const T* from, int64_t first, int count, T (&to)[kLaneElements]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (kPacked) {
    const auto pack = *reinterpret_cast<const Pack<kLaneElements, T>*>(from + first + lane * kLaneElements);
#pragma unroll
    for (int j = 0; j < kLaneElements; ++j) to[j] = pack.at[j];
  } else {
#pragma unroll
    for (int j = 0; j < kLaneElements; ++j) to[j] = lane + 32 * j < count ? from[first + lane + 32 * j] : T{};
  }
}
template <bool kPacked, class T>
__device__ void give(T* to, int64_t first, int count, const T (&from)[kLaneElements]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (kPacked) {
    Pack<kLaneElements, T> pack;
#pragma unroll
    for (int j = 0; j < kLaneElements; ++j) pack.at[j] = from[j];
    *reinterpret_cast<Pack<kLaneElements, T>*>(to + first + lane * kLaneElements) = pack;
  } else {
#pragma unroll
    for (int j = 0; j < kLaneElements; ++j)
      if (lane + 32 * j < count) to[first + lane + 32 * j] = from[j];
  }
}

// Past the end of a weight all is 0, and changes no block's largest.
template <bool kPacked>
__device__ void update_block(const Update& a, const Tables& tables, const StepScalars& step, float clip,
                             int64_t block) {
  const int64_t first = block * kStateBlock;
  const int count = static_cast<int>(a.size - first < kStateBlock ? a.size - first : kStateBlock);
  uint8_t m_code[kLaneElements], v_code[kLaneElements];
  float p[kLaneElements], g[kLaneElements], m[kLaneElements], v[kLaneElements];
  take<kPacked>(a.m, first, count, m_code);
  take<kPacked>(a.v, first, count, v_code);
  take<kPacked>(a.param, first, count, p);
  take<kPacked>(a.grad, first, count, g);
  float m_highest = 0, v_highest = 0;
  const float m_scale = a.m_scale[block], v_scale = a.v_scale[block];
  const float inv1 = 1.f / step.bias1, inv2 = 1.f / step.bias2, keep = kept_share(step, step.lr, a.decay);
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int j = 0; j < kLaneElements; ++j) {
    const float gradient = g[j] * clip;
    m[j] = fmaf(a.beta1, tables.map.with_sign[m_code[j]] * m_scale, (1.f - a.beta1) * gradient);
    v[j] = fmaf(a.beta2, tables.map.positive[v_code[j]] * v_scale, (1.f - a.beta2) * (gradient * gradient));
    p[j] = fmaf(-step.lr, m[j] * inv1 / (sqrtf(v[j] * inv2) + a.eps), p[j] * keep);
    if (!kPacked && lane + 32 * j >= count) continue;
    m_highest = fmaxf(m_highest, fabsf(m[j]));
    v_highest = fmaxf(v_highest, v[j]);
  }
  give<kPacked>(a.param, first, count, p);
  if (a.copy) {
    bf16 narrow[kLaneElements];
#pragma unroll
    for (int j = 0; j < kLaneElements; ++j) put(&narrow[j], p[j]);
    give<kPacked>(a.copy, first, count, narrow);
  }
  m_highest = warp_highest(m_highest), v_highest = warp_highest(v_highest);
  constexpr float kLeast = 1e-37f;  // below, its inverse is no number; the block is 0
  const float m_inverse = m_highest > kLeast ? 1 / m_highest : 0,
              v_inverse = v_highest > kLeast ? 1 / v_highest : 0;
#pragma unroll
  for (int j = 0; j < kLaneElements; ++j) {
    m_code[j] = encode_with_sign(tables, m[j] * m_inverse);
    v_code[j] = static_cast<uint8_t>(nearest_magnitude(tables.positive, v[j] * v_inverse));
  }
  give<kPacked>(a.m, first, count, m_code);
  give<kPacked>(a.v, first, count, v_code);
  if (lane == 0) a.m_scale[block] = m_highest, a.v_scale[block] = v_highest;
}

__global__ void update_blocks_of_codes(Update a) {
  __shared__ alignas(Tables) unsigned char room[sizeof(Tables)];
  static_assert(sizeof(Tables) % 4 == 0);
  for (size_t i = threadIdx.x; i < sizeof(Tables) / 4; i += kUpdateThreads)
    reinterpret_cast<uint32_t*>(room)[i] = reinterpret_cast<const uint32_t*>(&kTables)[i];
  __syncthreads();
  const Tables& tables = *reinterpret_cast<const Tables*>(room);
  let_next_start();
  wait_for_previous();
  const StepScalars step = *a.step;
  float clip = 1;
  if (!gradient_scale(step, a.norm, clip)) return;
  const int64_t warp = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32, warps = int64_t{gridDim.x} * kWarps,
                blocks = state_blocks(a.size);
  for (int64_t block = warp; block < blocks; block += warps)
    if (a.wide && (block + 1) * kStateBlock <= a.size)
      update_block<true>(a, tables, step, clip, block);
    else
      update_block<false>(a, tables, step, clip, block);
}

void adamw8bit(KernelContext&, const AdamW8bitArgs& args) {
  const int64_t size = args.param.size();
  if (size == 0) return;
  const Update a{args.param.ptr<float>(),
                 args.m.ptr<uint8_t>(),
                 args.v.ptr<uint8_t>(),
                 args.m_scale.ptr<float>(),
                 args.v_scale.ptr<float>(),
                 args.grad.ptr<const float>(),
                 args.norm.ptr<const float>(),
                 args.copy.defined() ? args.copy.ptr<bf16>() : nullptr,
                 args.step.ptr<const StepScalars>(),
                 size,
                 args.beta1,
                 args.beta2,
                 args.eps,
                 args.decay,
                 by_packs(kLaneElements, {&args.param, &args.m, &args.v, &args.grad, &args.copy})};
  constexpr int64_t kOfProcessor = 8;  // each brings the tables once
  const int64_t wanted = divide_up(state_blocks(size), kWarps), most = kOfProcessor * processors();
  launch_early(update_blocks_of_codes, dim3(static_cast<unsigned>(wanted < most ? wanted : most)),
               kUpdateThreads, 0, a);
  check_launch("adamw8bit");
}

const CudaKernel<AdamW8bitArgs> kKernel{kAdamW8bit, &adamw8bit};

}  // namespace
}  // namespace flagscale::op
