// Bound by memory. Backward sorts the tokens by id, stably: rows of one id are then neighbours, and one block
// adds them in token order, so the sum is the same every time.
#include "kernel/cuda/cuda.cuh"
#include "op/embedding/embedding.h"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr int kThreads = 256;

__device__ int64_t row_of(int32_t id, int64_t vocab) { return id >= 0 && id < vocab ? id : 0; }

template <class T>
__global__ void look_up(const int32_t* ids, Rows<const T> table, T* y, int64_t vocab, int64_t cols) {
  const T* from = table[row_of(ids[blockIdx.x], vocab)];
  T* to = y + int64_t{blockIdx.x} * cols;
  for (int64_t i = threadIdx.x; i < cols; i += blockDim.x) to[i] = from[i];
}

void forward(KernelContext&, const EmbeddingArgs& args) {
  const int64_t tokens = args.ids.size(), cols = args.y.cols();
  if (tokens == 0) return;
  for_float_type(args.y.dtype, "embedding", [&]<class T>(T) {
    look_up<<<static_cast<unsigned>(tokens), row_threads(cols, 2)>>>(
        args.ids.ptr<const int32_t>(), rows_of<const T>(args.table), args.y.ptr<T>(), args.table.dims[0],
        cols);
  });
  check_launch("embedding");
}

// A token's id and its place: all different, so that any sort is stable.
using Key = unsigned long long;
constexpr int kSlice = 2048;  // keys that a block sorts in shared memory
constexpr Key kNoKey = ~Key{0};

int64_t padded(int64_t tokens) {  // to a power of two
  int64_t n = kSlice;
  while (n < tokens) n *= 2;
  return n;
}

__global__ void make_keys(const int32_t* ids, Key* keys, int64_t tokens, int64_t count, int64_t vocab) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count)
    keys[i] = i < tokens ? static_cast<Key>(row_of(ids[i], vocab)) << 32 | static_cast<Key>(i) : kNoKey;
}

// One step of a bitonic sort (Batcher, 1968): keys `step` apart, rising in every other run of `run` keys.
__device__ void compare(Key& a, Key& b, bool rising) {
  if ((a > b) == rising) {
    const Key t = a;
    a = b;
    b = t;
  }
}

// All steps of runs from `run` to `last` that fit into a slice.
__global__ void sort_slices(Key* keys, int64_t run, int64_t last) {
  __shared__ Key slice[kSlice];
  const int64_t base = int64_t{blockIdx.x} * kSlice;
  for (int i = static_cast<int>(threadIdx.x); i < kSlice; i += kThreads) slice[i] = keys[base + i];
  for (; run <= last; run *= 2)
    for (int step = static_cast<int>(run / 2 < kSlice / 2 ? run / 2 : kSlice / 2); step > 0; step /= 2) {
      __syncthreads();
      for (int t = static_cast<int>(threadIdx.x); t < kSlice / 2; t += kThreads) {
        const int i = t / step * 2 * step + t % step;
        compare(slice[i], slice[i + step], ((base + i) & run) == 0);
      }
    }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kSlice; i += kThreads) keys[base + i] = slice[i];
}

__global__ void sort_far(Key* keys, int64_t count, int64_t run, int64_t step) {
  const int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x, i = t / step * 2 * step + t % step;
  if (t < count / 2) compare(keys[i], keys[i + step], (i & run) == 0);
}

void sort(Key* keys, int64_t count) {
  const auto slices = static_cast<unsigned>(count / kSlice),
             pairs = static_cast<unsigned>(divide_up(count / 2, kThreads));
  sort_slices<<<slices, kThreads>>>(keys, 2, kSlice);
  for (int64_t run = 2 * kSlice; run <= count; run *= 2) {
    for (int64_t step = run / 2; step >= kSlice; step /= 2)
      sort_far<<<pairs, kThreads>>>(keys, count, run, step);
    sort_slices<<<slices, kThreads>>>(keys, run, run);
  }
}

// The block of the first token of an id adds all of the id's; a sum in bf16 is rounded once.
template <class T, class S>
__global__ void add_rows(const Key* keys, Rows<const T> dy, Rows<S> dtable, int64_t tokens, int64_t cols) {
  const int64_t first = blockIdx.x;
  const Key id = keys[first] >> 32;
  if (first > 0 && keys[first - 1] >> 32 == id) return;
  int64_t end = first + 1;
  while (end < tokens && keys[end] >> 32 == id) ++end;
  S* row = dtable[static_cast<int64_t>(id)];
  for (int64_t column = threadIdx.x; column < cols; column += blockDim.x) {
    float total = as_float(row[column]);
#pragma unroll 8
    for (int64_t i = first; i < end; ++i)
      total += as_float(dy[static_cast<int64_t>(keys[i] & 0xffffffffu)][column]);
    put(row + column, total);
  }
}

void backward(KernelContext& context, const EmbeddingBackwardArgs& args) {
  const int64_t tokens = args.ids.size(), cols = args.dtable.cols(), vocab = args.dtable.dims[0];
  const size_t number = size_of(args.dtable.dtype);
  if (args.accumulate && *args.accumulate == 0)
    cudaMemset2DAsync(args.dtable.data, static_cast<size_t>(args.dtable.row_stride()) * number, 0,
                      static_cast<size_t>(cols) * number, static_cast<size_t>(vocab));
  if (tokens == 0) return;
  auto* keys = reinterpret_cast<Key*>(context.workspace.data());
  const int64_t count = padded(tokens);
  make_keys<<<static_cast<unsigned>(divide_up(count, kThreads)), kThreads>>>(args.ids.ptr<const int32_t>(),
                                                                             keys, tokens, count, vocab);
  sort(keys, count);
  for_float_type(args.dy.dtype, "embedding_backward", [&]<class T>(T) {
    for_float_type(args.dtable.dtype, "embedding_backward", [&]<class S>(S) {
      add_rows<<<static_cast<unsigned>(tokens), row_threads(cols, 1)>>>(
          keys, rows_of<const T>(args.dy), rows_of<S>(args.dtable), tokens, cols);
    });
  });
  check_launch("embedding_backward");
}

size_t backward_workspace(const EmbeddingBackwardArgs& args, int) {
  return static_cast<size_t>(padded(args.ids.dims[0])) * sizeof(Key);
}

const CudaKernel<EmbeddingArgs> kForward{kEmbedding, &forward};
const CudaKernel<EmbeddingBackwardArgs> kBackward{kEmbeddingBackward, &backward, &backward_workspace};

}  // namespace
}  // namespace flagscale::op
