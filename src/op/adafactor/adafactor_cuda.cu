// Rows' means, columns' sums in chunks of rows, both means and the factors of columns, the update's mean
// square, the rate that follows, the update: each sum in a fixed order.
#include "op/adafactor/adafactor.h"
#include "op/adamw/step_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

constexpr float kEpsilon = 1e-30f, kLeastScale = 1e-3f;
constexpr int64_t kPiece = 4096;  // of a vector, which is cut as a matrix is into rows
constexpr int64_t kMostChunks = 128, kLeastRows = 32;

struct Factors {
  float *param, *row, *column;  // column: null for a vector
  const float *grad, *norm;
  const StepScalars* step;
  bf16* copy;
  int64_t size, rows, columns, chunk, chunks;  // rows: of a vector its pieces
  float decay_rate, clip_threshold;
  bool scale_parameter, decay;
  double *update, *weights;                   // sums of squares of each row
  float *sums, *factor, *mean, *keep, *rate;  // sums: of each chunk's columns; factor: 1 / sqrt(column)

  __device__ float beta() const {
    return static_cast<float>(1 - pow(static_cast<double>(step->update), static_cast<double>(decay_rate)));
  }
  // Where it begins, and what is one past its last element.
  __device__ int64_t begin(int64_t r) const { return r * columns; }
  __device__ int64_t end(int64_t r) const { return (r + 1) * columns < size ? (r + 1) * columns : size; }
  // What u is of an element, of row `r` and so far along it; `of_row` is row_factor(r).
  __device__ float u(int64_t i, int64_t along, float of_row, float clip) const {
    if (!column) return grad[i] * clip / fmaxf(sqrtf(row[i]), 1e-30f);
    return grad[i] * clip * of_row * factor[along];
  }
  __device__ float row_factor(int64_t r) const { return column ? sqrtf(*mean / row[r]) : 1.f; }
};

__device__ float blended(float beta, float old, double mean) {
  return beta * old + (1 - beta) * (static_cast<float>(mean) + kEpsilon);
}

__global__ void take_rows(Factors a) {
  float clip = 1;
  if (!gradient_scale(*a.step, a.norm, clip)) return;
  const int64_t r = blockIdx.x;
  float total = 0;
  const float beta = a.column && threadIdx.x != 0 ? 0.f : a.beta();
  for (int64_t i = a.begin(r) + threadIdx.x; i < a.end(r); i += kUpdateThreads) {
    const float g = a.grad[i] * clip;
    if (a.column)
      total = fmaf(g, g, total);
    else
      a.row[i] = fmaf(beta, a.row[i], (1 - beta) * fmaf(g, g, kEpsilon));
  }
  if (!a.column) return;
  const double sum = block_sum_of_doubles(static_cast<double>(total));
  if (threadIdx.x == 0) a.row[r] = blended(beta, a.row[r], sum / static_cast<double>(a.columns));
}

__global__ void sum_columns(Factors a) {
  float clip = 1;
  if (!gradient_scale(*a.step, a.norm, clip)) return;
  const int64_t column = int64_t{blockIdx.y} * kUpdateThreads + threadIdx.x;
  if (column >= a.columns) return;
  const int64_t first = int64_t{blockIdx.x} * a.chunk,
                end = first + a.chunk < a.rows ? first + a.chunk : a.rows;
  float total = 0;
  for (int64_t r = first; r < end; ++r) {
    const float g = a.grad[r * a.columns + column] * clip;
    total = fmaf(g, g, total);
  }
  a.sums[int64_t{blockIdx.x} * a.columns + column] = total;
}

// The last block forms the mean of rows.
__global__ void take_columns(Factors a) {
  float clip = 1;
  if (!gradient_scale(*a.step, a.norm, clip)) return;
  double total = 0;
  if (blockIdx.x + 1 == gridDim.x) {
    for (int64_t r = threadIdx.x; r < a.rows; r += kUpdateThreads) total += static_cast<double>(a.row[r]);
    total = block_sum_of_doubles(total);
    if (threadIdx.x == 0) *a.mean = static_cast<float>(total / static_cast<double>(a.rows));
    return;
  }
  const int64_t column = int64_t{blockIdx.x} * kUpdateThreads + threadIdx.x;
  if (column >= a.columns) return;
  for (int64_t c = 0; c < a.chunks; ++c) total += static_cast<double>(a.sums[c * a.columns + column]);
  const float now = blended(a.beta(), a.column[column], total / static_cast<double>(a.rows));
  a.column[column] = now;
  a.factor[column] = 1 / sqrtf(now);
}

__global__ void sum_squares(Factors a) {
  float clip = 1;
  if (!gradient_scale(*a.step, a.norm, clip)) return;
  const int64_t r = blockIdx.x, first = a.begin(r);
  const float of_row = a.row_factor(r);
  float update = 0, weights = 0;
  for (int64_t i = first + threadIdx.x; i < a.end(r); i += kUpdateThreads) {
    const float u = a.u(i, i - first, of_row, clip);
    update = fmaf(u, u, update);
    if (a.scale_parameter) weights = fmaf(a.param[i], a.param[i], weights);
  }
  const double all = block_sum_of_doubles(static_cast<double>(update)),
               of_weights = block_sum_of_doubles(static_cast<double>(weights));
  if (threadIdx.x == 0) a.update[r] = all, a.weights[r] = of_weights;
}

__device__ float root_mean(const double* sums, const Factors& a) {
  double total = 0;
  for (int64_t r = threadIdx.x; r < a.rows; r += kUpdateThreads) total += sums[r];
  return static_cast<float>(sqrt(block_sum_of_doubles(total) / static_cast<double>(a.size)));
}

__global__ void find_rate(Factors a) {
  const StepScalars step = *a.step;
  float clip = 1;
  if (!gradient_scale(step, a.norm, clip)) return;
  const float excess = root_mean(a.update, a) / a.clip_threshold, size = root_mean(a.weights, a);
  if (threadIdx.x != 0) return;
  const float lr = a.scale_parameter ? step.lr * fmaxf(size, kLeastScale) : step.lr;
  *a.keep = kept_share(step, lr, a.decay);
  *a.rate = -lr / fmaxf(excess, 1.f);
}

__global__ void apply(Factors a) {
  float clip = 1;
  if (!gradient_scale(*a.step, a.norm, clip)) return;
  const int64_t r = blockIdx.x, first = a.begin(r);
  const float of_row = a.row_factor(r), keep = *a.keep, rate = *a.rate;
  for (int64_t i = first + threadIdx.x; i < a.end(r); i += kUpdateThreads) {
    const float p = fmaf(rate, a.u(i, i - first, of_row, clip), a.param[i] * keep);
    a.param[i] = p;
    if (a.copy) put(a.copy + i, p);
  }
}

// `room`: null where only its size is asked for.
Factors factors_of(const AdafactorArgs& args, std::byte* room, size_t* bytes) {
  const bool matrix = args.column.defined();
  Factors a{};
  a.size = args.param.size();
  a.columns = matrix ? args.column.size() : kPiece;
  a.rows = matrix ? args.row.size() : divide_up(a.size, kPiece);
  a.chunk = divide_up(a.rows, kMostChunks);
  if (a.chunk < kLeastRows) a.chunk = kLeastRows;
  a.chunks = matrix ? divide_up(a.rows, a.chunk) : 0;
  const int64_t of_columns = matrix ? a.columns : 0;
  size_t used = 0;
  const auto take = [&]<class T>(T*& to, int64_t count) {
    to = room ? reinterpret_cast<T*>(room + used) : nullptr;
    used += static_cast<size_t>(count) * sizeof(T);
  };
  take(a.update, a.rows), take(a.weights, a.rows);
  take(a.sums, a.chunks * of_columns), take(a.factor, of_columns);
  take(a.mean, 1), take(a.keep, 1), take(a.rate, 1);
  if (bytes) *bytes = used;
  return a;
}

void adafactor(KernelContext& context, const AdafactorArgs& args) {
  Factors a = factors_of(args, context.workspace.data(), nullptr);
  if (a.size == 0) return;
  a.param = args.param.ptr<float>(), a.row = args.row.ptr<float>();
  a.column = args.column.defined() ? args.column.ptr<float>() : nullptr;
  a.grad = args.grad.ptr<const float>(), a.norm = args.norm.ptr<const float>();
  a.step = args.step.ptr<const StepScalars>();
  a.copy = args.copy.defined() ? args.copy.ptr<bf16>() : nullptr;
  a.decay_rate = args.decay_rate, a.clip_threshold = args.clip_threshold;
  a.scale_parameter = args.scale_parameter, a.decay = args.decay;
  const auto rows = static_cast<unsigned>(a.rows),
             tiles = static_cast<unsigned>(divide_up(a.columns, kUpdateThreads));
  take_rows<<<rows, kUpdateThreads>>>(a);
  if (a.column) {
    sum_columns<<<dim3(static_cast<unsigned>(a.chunks), tiles), kUpdateThreads>>>(a);
    take_columns<<<tiles + 1, kUpdateThreads>>>(a);
  }
  sum_squares<<<rows, kUpdateThreads>>>(a);
  find_rate<<<1, kUpdateThreads>>>(a);
  apply<<<rows, kUpdateThreads>>>(a);
  check_launch("adafactor");
}

size_t workspace(const AdafactorArgs& args, int) {
  size_t bytes = 0;
  factors_of(args, nullptr, &bytes);
  return bytes;
}

const CudaKernel<AdafactorArgs> kKernel{kAdafactor, &adafactor, &workspace};

}  // namespace
}  // namespace flagscale::op
