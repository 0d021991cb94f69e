#pragma once
// Eight and four bits an element to bf16 in registers, and where a lane's bytes lie.
#include <cuda_fp16.h>

#include "kernel/cuda/cuda.cuh"
#include "kernel/cuda/tensor_cores.cuh"
#include "op/narrow_linear/narrow_linear.h"

namespace flagscale::op {

// A format's tile: kHalves runs of 32 columns. Where columns share scales by groups, a lane reads kWords
// words of scales a tile, each of its two rows', in fp32 one of both.
template <Narrow kFormat>
struct Layout {
  static constexpr int kColumns = static_cast<int>(tile_columns(kFormat)), kHalves = kColumns / 32;
  static constexpr int kGroup = static_cast<int>(columns_of_scale(kFormat));
  static constexpr bool kGrouped = kGroup > 0;
  static constexpr int kWords = !kGrouped ? 0 : kGroup < kColumns ? kColumns / kGroup : 1;
  static constexpr int kScalePieces = kWords * 2;  // of 16 bytes, of a tile
};

// What widen() multiplies by, twice, for a lane's two rows. low: where kGrouped, what `high` lacks of a
// scale.
struct Factors {
  uint32_t high[2], low[2];
};

__device__ inline uint32_t twice(cuda::bf16 x) {
  const __nv_bfloat162 pair = __bfloat162bfloat162(x);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline __nv_bfloat162 pair_in(uint32_t bits) {
  return *reinterpret_cast<const __nv_bfloat162*>(&bits);
}
__device__ inline uint32_t bits_of(__nv_bfloat162 pair) { return *reinterpret_cast<const uint32_t*>(&pair); }

// A scale a row. An e4m3 number with the exponent's field of bf16 is 2^-120 of itself.
template <Narrow kFormat>
__device__ uint32_t factor_of(cuda::bf16 scale) {
  if (kFormat == Narrow::kFp8) return twice(__float2bfloat16_rn(cuda::as_float(scale) * 0x1p120f));
  return twice(scale);
}

// A scale of fp16 has eleven bits: the first eight of them, and the rest, are numbers of bf16.
__device__ inline Factors group_factors(uint32_t word) {
  Factors f;
  const __half2 scales = *reinterpret_cast<const __half2*>(&word);
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const float scale = row == 0 ? __low2float(scales) : __high2float(scales);
    f.high[row] = cuda::pair_of(scale, scale);
    const float rest = scale - __uint_as_float(f.high[row] << 16);
    f.low[row] = cuda::pair_of(rest, rest);
  }
  return f;
}

template <Narrow kFormat>
__device__ Factors factors_of_group(uint32_t word) {
  if constexpr (kFormat != Narrow::kFp8Blocks) return group_factors(word);
  Factors f{};
  f.high[0] = f.high[1] = __float_as_uint(__uint_as_float(word) * 0x1p120f);
  return f;
}

// A narrow weight; tiles and words of a panel. It has less than 2^31 pieces of 16 bytes.
struct Panels {
  const uint4* data;
  const void* scales;
  int64_t rows, tiles;
  int words;  // of scales, 32 bits, of a panel
  explicit Panels(const TensorView& data, const TensorView& scales, int64_t rows)
      : data(data.ptr<const uint4>()),
        scales(scales.data),
        rows(rows),
        tiles(data.cols() / kTileBytes),
        words(static_cast<int>(scales.cols() * static_cast<int64_t>(size_of(scales.dtype)) / 4)) {}
};

// Of rows with one scale; past the last row, its.
template <Narrow kFormat>
__device__ Factors row_factors(const Panels& w, int64_t panel, int lane) {
  Factors f{};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t at = panel * kPanelRows + half * 8 + lane / 4;
    f.high[half] =
        factor_of<kFormat>(static_cast<const cuda::bf16*>(w.scales)[at < w.rows ? at : w.rows - 1]);
  }
  return f;
}
// Of a tile: kWords runs of eight words, of rows l / 4 and l / 4 + 8 each.
template <Narrow kFormat>
__device__ const uint32_t* group_scales(const Panels& w, int panel, int tile) {
  using L = Layout<kFormat>;
  constexpr int kGroup = L::kGrouped ? L::kGroup : L::kColumns;
  return static_cast<const uint32_t*>(w.scales) + panel * w.words +
         static_cast<uint32_t>(tile) * L::kColumns / kGroup * 8;
}

// Four bytes to two pairs of bf16, each rounded once.
template <Narrow kFormat>
__device__ void widen(uint32_t q, uint32_t factor, uint32_t& low, uint32_t& high) {
  const auto one = [&](uint32_t pair) {
    if (kFormat == Narrow::kFp8)  // a pair: each byte above a zero
      return bits_of(__hmul2(pair_in((pair & 0x80008000u) | (pair >> 4 & 0x07f007f0u)), pair_in(factor)));
    // Each byte below a zero: 128 + its seven low bits, less 256 or, with the eighth bit, 128.
    const uint32_t above = (pair & 0x007f007fu) | 0x43004300u,
                   less = (factor ^ 0x80008000u) + 0x04000400u - (pair & 0x00800080u);
    return bits_of(__hfma2(pair_in(above), pair_in(factor), pair_in(less)));
  };
  low = one(__byte_perm(q, 0, kFormat == Narrow::kFp8 ? 0x1404 : 0x4140));
  high = one(__byte_perm(q, 0, kFormat == Narrow::kFp8 ? 0x3424 : 0x4342));
}

// Four e4m3 numbers to two pairs. With the exponent's field of fp32 they are 2^-120 of themselves, which the
// factor makes up for.
__device__ inline void widen_scaled(uint32_t q, uint32_t factor, uint32_t& low, uint32_t& high) {
  const float scale = __uint_as_float(factor);
  const auto one = [&](int shift) {  // the number in the topmost byte of q << shift
    const uint32_t top = q << shift;
    return __fmul_rn(__uint_as_float((top & 0x80000000u) | (top >> 4 & 0x07f00000u)), scale);
  };
  low = cuda::pair_of(one(24), one(16));
  high = cuda::pair_of(one(8), one(0));
}

// Four numbers of four bits at 0, 4, 8 and 12 of each half. 128 + (q ^ 8), less 136, is q; its product with
// the scale's rest is exact, so that the sum is rounded once.
__device__ inline void widen_nibbles(uint32_t q, uint32_t high, uint32_t low, uint32_t (&to)[4]) {
  constexpr uint32_t kAbove = 0x43084308u;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint32_t above;  // (q & mask) ^ kAbove, as one instruction
    asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(above) : "r"(q >> 4 * i), "r"(0x000f000fu), "r"(kAbove));
    const __nv_bfloat162 number = __hsub2(pair_in(above), pair_in(kAbove));
    to[i] = bits_of(__hfma2(number, pair_in(high), __hmul2(number, pair_in(low))));
  }
}

// A lane's run of 32 columns of a tile as two left factors, 16 columns each.
template <Narrow kFormat>
__device__ void widen_half(const uint4& tile, int half, const Factors& f, cuda::Fragment& first,
                           cuda::Fragment& second) {
  if constexpr (kFormat == Narrow::kFp8Blocks) {
    widen_scaled(tile.x, f.high[0], first[0], first[2]);
    widen_scaled(tile.y, f.high[1], first[1], first[3]);
    widen_scaled(tile.z, f.high[0], second[0], second[2]);
    widen_scaled(tile.w, f.high[1], second[1], second[3]);
  } else if constexpr (Layout<kFormat>::kGrouped) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      uint32_t of_row[4];
      widen_nibbles(row == 0 ? (half == 0 ? tile.x : tile.z) : (half == 0 ? tile.y : tile.w), f.high[row],
                    f.low[row], of_row);
      first[row] = of_row[0], first[row + 2] = of_row[1];
      second[row] = of_row[2], second[row + 2] = of_row[3];
    }
  } else {
    widen<kFormat>(tile.x, f.high[0], first[0], first[2]);
    widen<kFormat>(tile.y, f.high[1], first[1], first[3]);
    widen<kFormat>(tile.z, f.high[0], second[0], second[2]);
    widen<kFormat>(tile.w, f.high[1], second[1], second[3]);
  }
}

// body.template operator()<format>()
template <class Body>
void for_format(Narrow format, Body&& body) {
  if (format == Narrow::kFp8)
    body.template operator()<Narrow::kFp8>();
  else if (format == Narrow::kInt4)
    body.template operator()<Narrow::kInt4>();
  else if (format == Narrow::kInt4By32)
    body.template operator()<Narrow::kInt4By32>();
  else if (format == Narrow::kFp8Blocks)
    body.template operator()<Narrow::kFp8Blocks>();
  else
    body.template operator()<Narrow::kInt8>();
}

// Room for the weight as rows of bf16, and its launch there: [rows, columns]. counts: null, or of each of
// `groups` equal runs of rows; one with 0 is left out.
size_t widened_bytes(Narrow format, const TensorView& data, int64_t rows);
TensorView widen_panels(KernelContext& context, Narrow format, const TensorView& data,
                        const TensorView& scales, int64_t rows, int64_t columns,
                        const int32_t* counts = nullptr, int64_t groups = 1);

// By Hopper's warpgroups, for x whose rows begin at multiples of 16 bytes; false, and nothing is launched, on
// another GPU.
bool multiply_narrow_by_warpgroups(const NarrowLinearArgs& args);

}  // namespace flagscale::op
