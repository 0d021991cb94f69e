#pragma once
// Softmax over scores in a warp's sums of 16 x 8 (tensor_cores.cuh), forward and backward: what the kernels
// with mma and with wgmma share.

#include "kernel/cuda/tensor_cores.cuh"
#include "op/attention/attention_tiles_cuda.cuh"

namespace flagscale::op {

constexpr float kLog2e = 1.4426950408889634f;

__device__ inline float power_of_two(float x) {  // 0 below 2^-126
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Row `half` (0 or 1) of the lane's two, as pairs of columns.
template <int D>
__device__ void put_row(cuda::bf16* to, const float (&sum)[D / 8][4], int half, float factor, int lane,
                        int dim) {
#pragma unroll
  for (int j = 0; j < D / 8; ++j) {
    const int d = j * 8 + lane % 4 * 2;
    if (d < dim)
      *reinterpret_cast<uint32_t*>(to + d) =
          cuda::pair_of(sum[j][2 * half] * factor, sum[j][2 * half + 1] * factor);
  }
}

// Turns row `half` of the lane's two, a gradient of a head rotated by halves, back.
template <int D>
__device__ void turn_back(float (&sum)[D / 8][4], int half, const Rotation& r, int64_t token, int lane) {
  const int64_t row = int64_t{min(max(r.positions[token], 0), r.last)} * (D / 2) + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < D / 16; ++j) {
    const auto cos = *reinterpret_cast<const float2*>(r.cos + row + j * 8),
               sin = *reinterpret_cast<const float2*>(r.sin + row + j * 8);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float &p = sum[j][2 * half + i], &q = sum[j + D / 16][2 * half + i];
      const float c = i == 0 ? cos.x : cos.y, s = i == 0 ? sin.x : sin.y, x = p;
      p = x * c + q * s;
      q = q * c - x * s;
    }
  }
}

__device__ inline float over_row(float x, bool largest) {  // over the four lanes that share a row
#pragma unroll
  for (int step = 1; step < 4; step *= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, x, step);
    x = largest ? fmaxf(x, other) : x + other;
  }
  return x;
}

// Positions in a sequence as the kernels compare them.
struct Sight {
  int length, window;
  __device__ Sight(int64_t of_sequence, const AttentionShape& shape)
      : length(static_cast<int>(of_sequence)), window(static_cast<int>(shape.window)) {}
  __device__ bool operator()(int query, int key) const {
    return key <= query && query < length && (window == 0 || key + window > query);
  }
};

// Scores that a query may not use become -infinity. query, key: of the lane's first element.
template <int kKeys>
__device__ void hide_unseen(float (&scores)[kKeys / 8][4], int query, int key, const Sight& sees) {
#pragma unroll
  for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (!sees(query + i / 2 * 8, key + j * 8 + i % 2)) scores[j][i] = -INFINITY;
}

// Scores become weights relative to the maximum so far, which `mixed` and `sum` are brought to. scale: of a
// score for powers of two.
template <int D, int kKeys>
__device__ void weigh_scores(float (&scores)[kKeys / 8][4], float (&mixed)[D / 8][4], float (&maximum)[2],
                             float (&sum)[2], float scale) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float high = maximum[half];
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j)
      high = fmaxf(high, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
    high = over_row(high, true);
    const float shift = high == -INFINITY ? 0.f : high * scale;
    const float shrink = power_of_two(maximum[half] * scale - shift);
    maximum[half] = high;
    sum[half] *= shrink;
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        scores[j][i] = power_of_two(scores[j][i] * scale - shift);
        sum[half] += scores[j][i];
      }
#pragma unroll
    for (int j = 0; j < D / 8; ++j) {
      mixed[j][2 * half] *= shrink;
      mixed[j][2 * half + 1] *= shrink;
    }
  }
}

struct Element {
  int query, key;
  float lse, delta;  // of the query; lse for powers of two
};

// Scores become probabilities. scale: of a score for powers of two; `at(j, i)` gives an element; kAll: every
// query sees every key.
template <bool kAll, int kN, class At>
__device__ void probabilities(float (&scores)[kN / 8][4], float scale, const Sight& sees, At&& at) {
#pragma unroll
  for (int j = 0; j < kN / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Element e = at(j, i);
      scores[j][i] = kAll || sees(e.query, e.key) ? power_of_two(scores[j][i] * scale - e.lse) : 0.f;
    }
}

// slopes, dout v^T, become the gradients of the unscaled scores.
template <int kN, class At>
__device__ void slopes_of_scores(float (&slopes)[kN / 8][4], const float (&probability)[kN / 8][4], At&& at) {
#pragma unroll
  for (int j = 0; j < kN / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) slopes[j][i] = probability[j][i] * (slopes[j][i] - at(j, i).delta);
}

}  // namespace flagscale::op
