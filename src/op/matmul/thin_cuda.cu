// Bound by memory: each number of the sum is read and written once, in pieces of 16 bytes. A warp owns 32
// columns, whose part of the right factor stays in its registers while it walks down the rows.
#include "kernel/cuda/cuda.cuh"
#include "kernel/cuda/tensor_cores.cuh"
#include "op/matmul/thin_cuda.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kWarps = 8, kWarpColumns = 32, kTiles = kWarpColumns / 8, kRows = 16;

struct Thin {
  Rows<const bf16> a, b;
  Rows<bf16> sum;
  int64_t rows, columns;
  int rows_of_block;
};

__device__ inline uint32_t two_of(const bf16* p) { return *reinterpret_cast<const uint32_t*>(p); }
__device__ inline uint32_t two_of(const bf16* first, const bf16* second) {
  const auto bits = [](const bf16* p) { return uint32_t{*reinterpret_cast<const uint16_t*>(p)}; };
  return bits(first) | bits(second) << 16;
}

// The product's column n of tile t is the warp's column n / 2 * 8 + 2 t + n % 2: so that what a lane has of a
// row in all tiles are eight neighbours.
template <int kSteps, bool kTransposed>
__global__ void __launch_bounds__(kWarps * 32) add_thin(Thin p) {
  let_next_start();
  wait_for_previous();
  const int lane = static_cast<int>(threadIdx.x) % 32, k = lane % 4 * 2;
  const int64_t column = (int64_t{blockIdx.x} * kWarps + threadIdx.x / 32) * kWarpColumns;
  if (column >= p.columns) return;
  uint32_t right[kSteps][kTiles][2];
#pragma unroll
  for (int s = 0; s < kSteps; ++s)
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int at = s * 16 + half * 8 + k;
        const int64_t n = column + lane / 8 * 8 + 2 * t + lane / 4 % 2;
        right[s][t][half] = kTransposed ? two_of(p.b[n] + at) : two_of(p.b[at] + n, p.b[at + 1] + n);
      }
  const int64_t begin = int64_t{blockIdx.y} * p.rows_of_block,
                end = begin + p.rows_of_block < p.rows ? begin + p.rows_of_block : p.rows;
#pragma unroll 2
  for (int64_t first = begin; first < end; first += kRows) {
    const int64_t row[2] = {first + lane / 4, first + lane / 4 + 8};
    Pack<8, bf16> sums[2];
    Fragment left[kSteps];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const bool there = row[half] < end;
      if (there) sums[half] = *reinterpret_cast<const Pack<8, bf16>*>(p.sum[row[half]] + column + k * 4);
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        const bf16* from = p.a[row[half]] + s * 16 + k;
        left[s][half] = there ? two_of(from) : 0;
        left[s][half + 2] = there ? two_of(from + 8) : 0;
      }
    }
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      float c[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) c[i] = as_float(sums[i / 2].at[2 * t + i % 2]);
#pragma unroll
      for (int s = 0; s < kSteps; ++s) multiply_add(c, left[s], right[s][t][0], right[s][t][1]);
#pragma unroll
      for (int i = 0; i < 4; ++i) put(&sums[i / 2].at[2 * t + i % 2], c[i]);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if (row[half] < end) *reinterpret_cast<Pack<8, bf16>*>(p.sum[row[half]] + column + k * 4) = sums[half];
  }
}

template <int kSteps>
void launch(const Thin& p, bool transposed) {
  const dim3 blocks(static_cast<unsigned>(divide_up(p.columns, kWarps * kWarpColumns)),
                    static_cast<unsigned>(divide_up(p.rows, p.rows_of_block)));
  launch_early(transposed ? add_thin<kSteps, true> : add_thin<kSteps, false>, blocks, kWarps * 32, 0, p);
  check_launch("matmul");
}

bool in_pairs(const TensorView& view) {
  return reinterpret_cast<uintptr_t>(view.data) % 4 == 0 && view.row_stride() % 2 == 0;
}

}  // namespace

bool add_thin_product(const MatmulArgs& args) {
  const TensorView& sum = args.sum;
  const int64_t k = args.a.cols(), columns = sum.cols();
  const bool fits = args.a.dtype == DType::kBF16 && sum.dtype == DType::kBF16 && !args.trans_a && k > 0 &&
                    k % 16 == 0 && k <= kThin && columns % kWarpColumns == 0 && wide(sum) &&
                    in_pairs(args.a) && (!args.trans_b || in_pairs(args.b));
  if (!fits) return false;
  const Thin p{
      rows_of<const bf16>(args.a), rows_of<const bf16>(args.b), rows_of<bf16>(sum), args.a.rows(), columns,
      columns < 8192 ? 128 : 256};
  if (p.rows == 0) return true;
  switch (k / 16) {
    case 1:
      launch<1>(p, args.trans_b);
      break;
    case 2:
      launch<2>(p, args.trans_b);
      break;
    case 3:
      launch<3>(p, args.trans_b);
      break;
    default:
      launch<4>(p, args.trans_b);
  }
  return true;
}

}  // namespace flagscale::op
