// Rounding is bound by memory: x is read once, by tiles of 128 x 128 numbers, and written as it lies and
// transposed; before that, for a scale of the whole tensor, read once for its largest magnitude.
#include <cuda_fp8.h>

#include "kernel/cuda/cuda.cuh"
#include "op/fp8_product/fp8_product.h"
#include "op/fp8_product/largest_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kTile = 128, kThreads = 256, kWarps = kThreads / 32;
constexpr int kPartials = kLargestParts;

struct Round {
  Rows<const bf16> x;
  int64_t m, n;
  uint8_t *rows, *columns;            // null: not wanted
  float *row_scales, *column_scales;  // kTensor: the former alone
  int64_t row_stride, column_stride;  // kSquare128: of the scales
  const uint32_t* partials;           // kTensor
};

// From the last on: what was read last for the largest magnitude is still in the second-level cache.
__device__ inline unsigned tile_row() { return gridDim.y - 1 - blockIdx.y; }

// Of each half the larger magnitude, by bits, so that what is no number is the largest.
__device__ inline uint32_t larger(uint32_t a, uint32_t b) { return __vmaxu2(a, b & 0x7fff7fffu); }
__device__ inline float number_of(uint32_t bits) { return __uint_as_float(bits << 16); }
__device__ inline float of_both(uint32_t halves) { return number_of(max(halves & 0xffffu, halves >> 16)); }

__device__ inline uint32_t larger_in_warp(uint32_t most, int from, int to) {
  for (int step = from; step >= to; step /= 2)
    most = __vmaxu2(most, __shfl_xor_sync(0xffffffffu, most, step));
  return most;
}

// Of a block's threads, on each of them.
__device__ inline float larger_in_block(uint32_t most) {
  __shared__ uint32_t of_warp[kWarps];
  most = larger_in_warp(most, 16, 1);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = most;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kWarps; ++i) most = __vmaxu2(most, of_warp[i]);
  return of_both(most);
}

// fp8_factor(), to the bit.
template <Fp8 kFormat, Fp8Scales kShared>
__device__ inline float factor_of(float magnitude) {
  if (magnitude == 0 || !isfinite(magnitude)) return 1;
  const float factor = fminf((kFormat == Fp8::kE4M3 ? 448.f : 57344.f) / magnitude, 3.402823466e38f);
  return kShared == Fp8Scales::kTensor ? factor : __uint_as_float(__float_as_uint(factor) & 0x7f800000u);
}

template <Fp8 kFormat>
__device__ inline uint32_t rounded(float a, float b, float c, float d) {
  constexpr auto kind = kFormat == Fp8::kE4M3 ? __NV_E4M3 : __NV_E5M2;
  const uint32_t low = __nv_cvt_float2_to_fp8x2(float2{a, b}, __NV_SATFINITE, kind),
                 high = __nv_cvt_float2_to_fp8x2(float2{c, d}, __NV_SATFINITE, kind);
  return low | high << 16;
}

struct alignas(16) Eight {
  uint32_t pair[4];
  __device__ float operator[](int i) const {
    return i % 2 ? __uint_as_float(pair[i / 2] & 0xffff0000u) : number_of(pair[i / 2]);
  }
};

// kFlat: rows follow one another. Four loads are under way at once.
template <bool kFlat>
__global__ void __launch_bounds__(kThreads) look_for_largest(Round p, uint32_t* partials) {
  constexpr int kLoads = 4;
  const int64_t packs_of_row = p.n / 8, packs = p.m * packs_of_row, step = int64_t{gridDim.x} * kThreads;
  uint32_t most = 0;
  for (int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x; first < packs; first += kLoads * step) {
    Eight x[kLoads];
#pragma unroll
    for (int l = 0; l < kLoads; ++l) {
      const int64_t i = first + l * step < packs ? first + l * step : first;
      const int64_t row = kFlat ? 0 : i / packs_of_row;
      x[l] = *reinterpret_cast<const Eight*>(p.x[row] + (i - row * packs_of_row) * 8);
    }
#pragma unroll
    for (const Eight& pack : x)
#pragma unroll
      for (const uint32_t pair : pack.pair) most = larger(most, pair);
  }
  const float magnitude = larger_in_block(most);
  if (threadIdx.x == 0) partials[blockIdx.x] = __float_as_uint(magnitude) >> 16;
}

// What x is multiplied with, of a thread's eight rows and eight columns.
struct Factors {
  float row[8], column[8];
};

template <Fp8 kFormat, Fp8Scales kShared>
__device__ Factors one_factor(const Round& p, float magnitude, bool first) {
  const float factor = factor_of<kFormat, kShared>(magnitude);
  Factors f;
#pragma unroll
  for (int i = 0; i < 8; ++i) f.row[i] = f.column[i] = factor;
  if (!first) return f;
  if (kShared == Fp8Scales::kTensor) {
    if (blockIdx.x + blockIdx.y == 0) p.row_scales[0] = 1 / factor;
    return f;
  }
  if (p.rows) p.row_scales[tile_row() * p.row_stride + blockIdx.x] = 1 / factor;
  if (p.columns) p.column_scales[blockIdx.x * p.column_stride + tile_row()] = 1 / factor;
  return f;
}

// A scale for each row's 128 columns, and one for each column's 128 rows.
template <Fp8 kFormat>
__device__ Factors line_factors(const Round& p, const Eight (&x)[8]) {
  __shared__ uint4 largest[kWarps][kTile / 8];
  __shared__ float column_factors[kTile];
  const int t = static_cast<int>(threadIdx.x), pack = t % 16, group = t / 16;
  Factors f;
  if (p.rows)
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      uint32_t most = 0;
#pragma unroll
      for (const uint32_t pair : x[i].pair) most = larger(most, pair);
      f.row[i] = factor_of<kFormat, Fp8Scales::kRow128>(of_both(larger_in_warp(most, 8, 1)));
      if (pack == i)
        p.row_scales[blockIdx.x * p.m + int64_t{tile_row()} * kTile + group * 8 + i] = 1 / f.row[i];
    }
  if (!p.columns) return f;
  uint32_t most[4] = {};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
#pragma unroll
    for (int i = 0; i < 8; ++i) most[j] = larger(most[j], x[i].pair[j]);
    most[j] = larger_in_warp(most[j], 16, 16);
  }
  if (t % 32 < 16) largest[t / 32][pack] = make_uint4(most[0], most[1], most[2], most[3]);
  __syncthreads();
  if (t < kTile) {
    uint32_t of_column = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w)
      of_column = max(of_column, uint32_t{reinterpret_cast<const uint16_t*>(largest[w])[t]});
    column_factors[t] = factor_of<kFormat, Fp8Scales::kRow128>(number_of(of_column));
    p.column_scales[tile_row() * p.n + int64_t{blockIdx.x} * kTile + t] = 1 / column_factors[t];
  }
  __syncthreads();
#pragma unroll
  for (int j = 0; j < 8; ++j) f.column[j] = column_factors[pack * 8 + j];
  return f;
}

// A thread has eight rows of eight columns: m and n are multiples of 16, so all of it is there or nothing.
template <Fp8 kFormat, Fp8Scales kShared>
__global__ void __launch_bounds__(kThreads) round_tiles(Round p) {
  // Eight rows' numbers of a column: where eight threads of different packs write, and read, banks differ.
  __shared__ __align__(16) uint2 turned[kTile][kTile / 8];
  const int t = static_cast<int>(threadIdx.x), pack = t % 16, group = t / 16;
  const int64_t first_row = int64_t{tile_row()} * kTile, first_column = int64_t{blockIdx.x} * kTile;
  const int64_t row = first_row + group * 8, column = first_column + pack * 8;
  const bool here = row < p.m && column < p.n;
  Eight x[8] = {};
  if (here)
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = *reinterpret_cast<const Eight*>(p.x[row + i] + column);
  Factors f;
  if constexpr (kShared == Fp8Scales::kRow128) {
    f = line_factors<kFormat>(p, x);
  } else {
    uint32_t most = 0;
    if constexpr (kShared == Fp8Scales::kTensor)
#pragma unroll
      for (int i = 0; i < kPartials; i += kThreads) most = max(most, p.partials[i + t]);
    else
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (const uint32_t pair : x[i].pair) most = larger(most, pair);
    f = one_factor<kFormat, kShared>(p, larger_in_block(most), t == 0);
  }
  if (p.rows && here)
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float s = f.row[i];
      *reinterpret_cast<uint2*>(p.rows + (row + i) * p.n + column) =
          make_uint2(rounded<kFormat>(x[i][0] * s, x[i][1] * s, x[i][2] * s, x[i][3] * s),
                     rounded<kFormat>(x[i][4] * s, x[i][5] * s, x[i][6] * s, x[i][7] * s));
    }
  if (!p.columns) return;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float s = f.column[j];
    turned[pack * 8 + j][group ^ pack] =
        make_uint2(rounded<kFormat>(x[0][j] * s, x[1][j] * s, x[2][j] * s, x[3][j] * s),
                   rounded<kFormat>(x[4][j] * s, x[5][j] * s, x[6][j] * s, x[7][j] * s));
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kTile; i += kThreads / 8) {
    const int c = i + t / 8, rows = t % 8 * 16, turn = c / 8;
    uint4 q = *reinterpret_cast<const uint4*>(&turned[c][(rows / 8 ^ turn) & ~1]);
    if (turn % 2) q = make_uint4(q.z, q.w, q.x, q.y);
    if (first_column + c < p.n && first_row + rows < p.m)
      *reinterpret_cast<uint4*>(p.columns + (first_column + c) * p.m + first_row + rows) = q;
  }
}

template <Fp8 kFormat, Fp8Scales kShared>
void launch(const Round& p) {
  const dim3 tiles(static_cast<unsigned>(divide_up(p.n, kTile)),
                   static_cast<unsigned>(divide_up(p.m, kTile)));
  round_tiles<kFormat, kShared><<<tiles, kThreads>>>(p);
}

template <Fp8 kFormat>
void launch(const Round& p, Fp8Scales shared) {
  switch (shared) {
    case Fp8Scales::kTensor:
      return launch<kFormat, Fp8Scales::kTensor>(p);
    case Fp8Scales::kRow128:
      return launch<kFormat, Fp8Scales::kRow128>(p);
    case Fp8Scales::kSquare128:
      return launch<kFormat, Fp8Scales::kSquare128>(p);
  }
}

void run(KernelContext& context, const Fp8RoundArgs& args) {
  if (args.keep && *args.keep != 0) return;
  const auto scales = [](const TensorView& view) { return view.defined() ? view.ptr<float>() : nullptr; };
  const auto numbers = [](const TensorView& view) { return view.defined() ? view.ptr<uint8_t>() : nullptr; };
  Round p{rows_of<const bf16>(args.x),
          args.x.rows(),
          args.x.cols(),
          numbers(args.rows),
          numbers(args.columns),
          scales(args.row_scales),
          scales(args.column_scales),
          args.row_scales.defined() ? args.row_scales.cols() : 0,
          args.column_scales.defined() ? args.column_scales.cols() : 0,
          reinterpret_cast<const uint32_t*>(context.workspace.data())};
  if (args.scales == Fp8Scales::kTensor) {
    if (args.largest.defined())
      p.partials = args.largest.ptr<const uint32_t>();
    else
      find_largest(args.x, reinterpret_cast<uint32_t*>(context.workspace.data()));
  }
  args.format == Fp8::kE4M3 ? launch<Fp8::kE4M3>(p, args.scales) : launch<Fp8::kE5M2>(p, args.scales);
  check_launch("fp8_round");
}

size_t workspace(const Fp8RoundArgs& args, int) {
  return args.scales == Fp8Scales::kTensor && !args.largest.defined() ? kPartials * sizeof(uint32_t) : 0;
}

const CudaKernel<Fp8RoundArgs> kKernel{kFp8Round, &run, &workspace};

__global__ void __launch_bounds__(kPartials) clear_parts(uint32_t* parts) {
  let_next_start();
  wait_for_previous();
  parts[threadIdx.x] = 0;
}

}  // namespace

void clear_largest(uint32_t* parts) {
  launch_early(clear_parts, dim3(1), kPartials, 0, parts);
  check_launch("fp8_round");
}

void find_largest(const TensorView& x, uint32_t* parts) {
  Round p{rows_of<const bf16>(x), x.rows(), x.cols(), nullptr, nullptr, nullptr, nullptr, 0, 0, nullptr};
  p.x.stride == p.n ? look_for_largest<true><<<kPartials, kThreads>>>(p, parts)
                    : look_for_largest<false><<<kPartials, kThreads>>>(p, parts);
  check_launch("fp8_round");
}
}  // namespace flagscale::op
