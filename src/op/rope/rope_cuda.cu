// Bound by memory: x is read once and y written once; a token's row of the tables serves all its heads.
#include "kernel/cuda/cuda.cuh"
#include "op/rope/rope.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

template <class T>
struct Rotation {
  Rows<const T> x;
  Rows<T> y;
  const int32_t* positions;
  const float *cos, *sin;
  int64_t half, pairs, last;  // pairs: of a row; last: row of the tables
  bool interleaved;
  float sign;
};

template <class T>
__global__ void rotate_rows(Rotation<T> a) {
  const int64_t token = blockIdx.x, wanted = a.positions[token];
  const int64_t row = (wanted < 0 ? 0 : wanted > a.last ? a.last : wanted) * a.half;
  for (int64_t pair = threadIdx.x; pair < a.pairs; pair += blockDim.x) {
    const int64_t head = pair / a.half, j = pair % a.half;
    const int64_t first = head * 2 * a.half + (a.interleaved ? 2 * j : j),
                  second = first + (a.interleaved ? 1 : a.half);
    const float c = a.cos[row + j], s = a.sign * a.sin[row + j];
    const float p = as_float(a.x[token][first]), q = as_float(a.x[token][second]);
    put(a.y[token] + first, p * c - q * s);
    put(a.y[token] + second, q * c + p * s);
  }
}

// Eight pairs of halves a thread.
constexpr int kPack = 8, kThreads = 256;
template <class T>
__global__ void rotate_packs(Rotation<T> a, int packs_of_token, int packs_of_head, int64_t count) {
  let_next_start();
  wait_for_previous();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t token = i / packs_of_token, wanted = a.positions[token];
  const int at = static_cast<int>(i - token * packs_of_token), head = at / packs_of_head,
            j = at % packs_of_head * kPack;
  const int64_t row = (wanted < 0 ? 0 : wanted > a.last ? a.last : wanted) * a.half + j;
  const int64_t first = head * 2 * a.half + j, second = first + a.half;
  float c[kPack], s[kPack], p[kPack], q[kPack];
  load(a.x[token] + first, p);
  load(a.x[token] + second, q);
  load(a.cos + row, c);
  load(a.sin + row, s);
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    const float sine = a.sign * s[k], x = p[k];
    p[k] = x * c[k] - q[k] * sine;
    q[k] = q[k] * c[k] + x * sine;
  }
  store(a.y[token] + first, p);
  store(a.y[token] + second, q);
}

void run(KernelContext&, const RopeArgs& args) {
  const int64_t half = args.cos.cols(), rows = args.x.rows(), pairs = args.x.cols() / 2;
  if (rows == 0) return;
  for_float_type(args.x.dtype, "rope", [&]<class T>(T) {
    const Rotation<T> a{rows_of<const T>(args.x),
                        rows_of<T>(args.y),
                        args.positions.ptr<const int32_t>(),
                        args.cos.ptr<const float>(),
                        args.sin.ptr<const float>(),
                        half,
                        pairs,
                        args.cos.dims[0] - 1,
                        args.interleaved,
                        args.backwards ? -1.f : 1.f};
    if (std::is_same_v<T, bf16> && !args.interleaved && half % kPack == 0 && wide(args.x) && wide(args.y)) {
      const int64_t count = rows * (pairs / kPack);
      launch_early(rotate_packs<T>, dim3(static_cast<unsigned>(divide_up(count, kThreads))), kThreads, 0, a,
                   static_cast<int>(pairs / kPack), static_cast<int>(half / kPack), count);
      return;
    }
    rotate_rows<<<static_cast<unsigned>(rows), row_threads(pairs, 2)>>>(a);
  });
  check_launch("rope");
}

const CudaKernel<RopeArgs> kKernel{kRope, &run};

}  // namespace
}  // namespace flagscale::op
