// Bound by memory: each number is read and written once. The random numbers are dropout_cpu.cc's: element e
// of the run's [rows, cols] is word e % 4 of Philox's counter e / 4.
#include "kernel/cuda/cuda.cuh"
#include "op/dropout/dropout.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kThreads = 256;

struct Draw {
  uint64_t seed, stream, first;  // first: element of the run that row 0 begins with
  uint32_t limit;                // words below it are dropped; 0: none is drawn
  float factor;                  // of what stays
};

__device__ uint4 philox(const Draw& d, uint64_t counter) {
  uint4 w{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
          static_cast<uint32_t>(d.stream), static_cast<uint32_t>(d.stream >> 32)};
  uint32_t key0 = static_cast<uint32_t>(d.seed), key1 = static_cast<uint32_t>(d.seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * w.x, b = uint64_t{0xCD9E8D57u} * w.z;
    w = {static_cast<uint32_t>(b >> 32) ^ w.y ^ key0, static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ w.w ^ key1, static_cast<uint32_t>(a)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return w;
}

// Four neighbours of one counter, or one of them.
template <int N>
__device__ void factors_at(const Draw& d, uint64_t element, float (&factors)[N]) {
  const uint4 w = philox(d, element / 4);
  const uint32_t words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
  for (int j = 0; j < N; ++j) {
    uint32_t word = words[j];
    if (N == 1)
#pragma unroll
      for (int i = 1; i < 4; ++i) word = element % 4 == static_cast<uint64_t>(i) ? words[i] : word;
    factors[j] = word < d.limit ? 0.f : d.factor;
  }
}

template <int N, class T>
__global__ void drop(Rows<const T> x, Rows<T> out, const int32_t* places, int64_t rows, int64_t cols,
                     Draw d) {
  const int64_t packs = cols / N;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < rows * packs;
       i += int64_t{gridDim.x} * kThreads) {
    const int64_t row = i / packs, column = i % packs * N;
    float v[N], factors[N];
    load(x[row] + column, v);
#pragma unroll
    for (int j = 0; j < N; ++j) factors[j] = d.factor;
    if (d.limit > 0)
      factors_at(d, d.first + static_cast<uint64_t>((places ? places[row] : row) * cols + column), factors);
#pragma unroll
    for (int j = 0; j < N; ++j) v[j] *= factors[j];
    store(out[row] + column, v);
  }
}

void run(KernelContext&, const DropoutArgs& args) {
  constexpr int kPack = 4;  // numbers of one counter
  const int64_t rows = args.x.rows(), cols = args.x.cols();
  if (rows * cols == 0) return;
  Draw d{args.seed, args.stream, 0, 0, args.scale / (1.f - args.rate)};
  if (args.rate > 0) {
    d.first = static_cast<uint64_t>(args.rows->first) *
              static_cast<uint64_t>(cols * (args.places.defined() ? args.x.dims[1] : 1));
    d.limit = static_cast<uint32_t>(static_cast<double>(args.rate) * 0x1p32);
  }
  for_float_type(args.x.dtype, "dropout", [&]<class T>(T) {
    const auto start = [&]<int N>(std::integral_constant<int, N>) {
      const int64_t blocks = divide_up(rows * (cols / N), kThreads);
      drop<N, T><<<static_cast<unsigned>(blocks < 65536 ? blocks : 65536), kThreads>>>(
          rows_of<const T>(args.x), rows_of<T>(args.out),
          args.places.defined() ? args.places.ptr<const int32_t>() : nullptr, rows, cols, d);
    };
    if (wide(args.x) && wide(args.out))
      start(std::integral_constant<int, kPack>{});
    else
      start(std::integral_constant<int, 1>{});
  });
  check_launch("dropout");
}

const CudaKernel<DropoutArgs> kKernel{kDropout, &run};

}  // namespace
}  // namespace flagscale::op
