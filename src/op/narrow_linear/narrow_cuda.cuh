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
