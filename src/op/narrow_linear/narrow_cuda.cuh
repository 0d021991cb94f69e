#pragma once
// Eight bits an element to bf16 in registers, and where a lane's bytes lie.
#include "kernel/cuda/cuda.cuh"
#include "kernel/cuda/tensor_cores.cuh"
#include "op/narrow_linear/narrow_linear.h"

namespace flagscale::op {

__device__ inline uint32_t twice(cuda::bf16 x) {
  const __nv_bfloat162 pair = __bfloat162bfloat162(x);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// What widen() multiplies by, twice.
template <Narrow kFormat>
__device__ uint32_t factor_of(cuda::bf16 scale) {
  // An e4m3 number with the exponent's field of bf16 is 2^-120 of itself.
  if (kFormat == Narrow::kFp8) return twice(__float2bfloat16_rn(cuda::as_float(scale) * 0x1p120f));
  return twice(scale);
}

// Four bytes to two pairs of bf16, each rounded once.
template <Narrow kFormat>
__device__ void widen(uint32_t q, uint32_t factor, uint32_t& low, uint32_t& high) {
  const auto factors = *reinterpret_cast<const __nv_bfloat162*>(&factor);
  const auto one = [&](uint32_t pair, uint32_t& to) {
    __nv_bfloat162 result;
    if (kFormat == Narrow::kFp8) {  // a pair: each byte above a zero
      const uint32_t moved = (pair & 0x80008000u) | (pair >> 4 & 0x07f007f0u);
      result = __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&moved), factors);
    } else {  // each byte below a zero: 128 + its seven low bits, less 256 or, with the eighth bit, 128
      const uint32_t above = (pair & 0x007f007fu) | 0x43004300u,
                     less = (factor ^ 0x80008000u) + 0x04000400u - (pair & 0x00800080u);
      result = __hfma2(*reinterpret_cast<const __nv_bfloat162*>(&above), factors,
                       *reinterpret_cast<const __nv_bfloat162*>(&less));
    }
    to = *reinterpret_cast<const uint32_t*>(&result);
  };
  one(__byte_perm(q, 0, kFormat == Narrow::kFp8 ? 0x1404 : 0x4140), low);
  one(__byte_perm(q, 0, kFormat == Narrow::kFp8 ? 0x3424 : 0x4342), high);
}

// A lane's 16 bytes of a tile as two left factors, 16 columns each. factors: of its two rows.
template <Narrow kFormat>
__device__ void widen_tile(const uint4& q, const uint32_t (&factors)[2], cuda::Fragment& first,
                           cuda::Fragment& second) {
  widen<kFormat>(q.x, factors[0], first[0], first[2]);
  widen<kFormat>(q.y, factors[1], first[1], first[3]);
  widen<kFormat>(q.z, factors[0], second[0], second[2]);
  widen<kFormat>(q.w, factors[1], second[1], second[3]);
}

// Rows of bf16 that the panels stand for, `tiles` tiles each. A thread: a lane's part of a tile. counts:
// null, or of each group of panels: one with 0 is left out.
template <Narrow kFormat>
__global__ void widen_tiles(const uint4* from, const cuda::bf16* scales, cuda::bf16* to, int64_t rows,
                            int64_t tiles, const int32_t* counts, int64_t panels_of_group) {
  const int64_t at = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, tile = at / 32;
  const int lane = static_cast<int>(at % 32);
  const int64_t panel = tile / tiles, first = panel * kPanelRows + lane / 4;
  if (first >= rows || (counts && counts[panel / panels_of_group] == 0)) return;
  const bool both = first + 8 < rows;
  const uint32_t factors[2] = {factor_of<kFormat>(scales[first]),
                               factor_of<kFormat>(scales[both ? first + 8 : first])};
  cuda::Fragment left[2];
  widen_tile<kFormat>(from[at], factors, left[0], left[1]);
  const int64_t pitch = tiles * kTileColumns;
  cuda::bf16* out = to + first * pitch + tile % tiles * kTileColumns + lane % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (i % 2 == 0 || both)
        *reinterpret_cast<uint32_t*>(out + i % 2 * 8 * pitch + half * 16 + i / 2 * 8) = left[half][i];
}

// body.template operator()<format>()
template <class Body>
void for_format(Narrow format, Body&& body) {
  if (format == Narrow::kFp8)
    body.template operator()<Narrow::kFp8>();
  else
    body.template operator()<Narrow::kInt8>();
}

// By Hopper's warpgroups, for x whose rows begin at multiples of 16 bytes; false, and nothing is launched, on
// another GPU.
bool multiply_narrow_by_warpgroups(const NarrowLinearArgs& args);

}  // namespace flagscale::op
