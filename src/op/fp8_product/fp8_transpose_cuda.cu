// Bound by memory: tiles of 128 x 128 bytes, of which a thread turns four rows of 16 in its registers.
#include "kernel/cuda/cuda.cuh"
#include "op/fp8_product/fp8_product.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kSide = 128, kTurners = 256;

// The four columns of four rows, each from its first row on.
__device__ inline uint4 turned(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  const uint32_t ab = __byte_perm(a, b, 0x5140), cd = __byte_perm(c, d, 0x5140),
                 ab_high = __byte_perm(a, b, 0x7362), cd_high = __byte_perm(c, d, 0x7362);
  return {__byte_perm(ab, cd, 0x5410), __byte_perm(ab, cd, 0x7632), __byte_perm(ab_high, cd_high, 0x5410),
          __byte_perm(ab_high, cd_high, 0x7632)};
}

__global__ void __launch_bounds__(kTurners)
    transpose_bytes(const uint8_t* x, uint8_t* y, int64_t m, int64_t n) {
  // Of a column, four rows a word; eight threads of different packs write different banks.
  __shared__ __align__(16) uint32_t columns[kSide][kSide / 4];
  const int t = static_cast<int>(threadIdx.x), pack = t % 8, group = t / 8;
  const int64_t first_row = int64_t{blockIdx.y} * kSide, first_column = int64_t{blockIdx.x} * kSide;
  const int64_t row = first_row + group * 4, column = first_column + pack * 16;
  uint4 in[4] = {};
  if (row < m && column < n)
#pragma unroll
    for (int i = 0; i < 4; ++i) in[i] = *reinterpret_cast<const uint4*>(x + (row + i) * n + column);
  const auto put = [&](int j, const uint4& four) {
    const int at = group ^ pack * 4;
    columns[pack * 16 + j][at] = four.x, columns[pack * 16 + j + 1][at] = four.y;
    columns[pack * 16 + j + 2][at] = four.z, columns[pack * 16 + j + 3][at] = four.w;
  };
  put(0, turned(in[0].x, in[1].x, in[2].x, in[3].x));
  put(4, turned(in[0].y, in[1].y, in[2].y, in[3].y));
  put(8, turned(in[0].z, in[1].z, in[2].z, in[3].z));
  put(12, turned(in[0].w, in[1].w, in[2].w, in[3].w));
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kSide; i += kTurners / 8) {
    const int c = i + t / 8, rows = t % 8 * 16;
    if (first_column + c < n && first_row + rows < m)
      *reinterpret_cast<uint4*>(y + (first_column + c) * m + first_row + rows) =
          *reinterpret_cast<const uint4*>(&columns[c][rows / 4 ^ c / 16 * 4]);
  }
}

void run(KernelContext&, const Fp8TransposeArgs& args) {
  const int64_t m = args.x.dims[0], n = args.x.dims[1];
  transpose_bytes<<<dim3(static_cast<unsigned>(divide_up(n, kSide)),
                         static_cast<unsigned>(divide_up(m, kSide))),
                    kTurners>>>(args.x.ptr<const uint8_t>(), args.y.ptr<uint8_t>(), m, n);
  check_launch("fp8_transpose");
}

const CudaKernel<Fp8TransposeArgs> kKernel{kFp8Transpose, &run};

}  // namespace
}  // namespace flagscale::op
