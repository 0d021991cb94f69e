// Bound by memory: in fp32 28 bytes a weight, 30 with the bf16 copy; all in bf16 14.
#include "op/adamw/step_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

template <class T>
__global__ void square_blocks(const T* grads, int64_t size, double* partials) {
  const int64_t first = int64_t{blockIdx.x} * kNormBlock,
                end = first + kNormBlock < size ? first + kNormBlock : size;
  double sum = 0;
  for (int64_t i = first + threadIdx.x; i < end; i += kUpdateThreads) {
    const auto g = static_cast<double>(as_float(grads[i]));
    sum += g * g;
  }
  sum = block_sum_of_doubles(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void root_of_sum(const double* partials, int64_t blocks, const float* loss, float* norm) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += kUpdateThreads) sum += partials[i];
  sum = block_sum_of_doubles(sum);
  if (threadIdx.x != 0) return;
  if (const float none = loss ? *loss - *loss : 0.f; none != 0.f) sum = none;  // NaN
  *norm = static_cast<float>(sqrt(sum));
}

void grad_squares(KernelContext&, const GradSquaresArgs& args) {
  for_float_type(args.grads.dtype, "grad_squares", [&]<class T>(T) {
    square_blocks<<<static_cast<unsigned>(args.sums.size()), kUpdateThreads>>>(
        args.grads.ptr<const T>(), args.grads.size(), args.sums.ptr<double>());
  });
  check_launch("grad_squares");
}

void grad_norm(KernelContext&, const GradNormArgs& args) {
  root_of_sum<<<1, kUpdateThreads>>>(args.sums.ptr<const double>(), args.sums.size(),
                                     args.loss.defined() ? args.loss.ptr<const float>() : nullptr,
                                     args.norm.ptr<float>());
  check_launch("grad_norm");
}

template <class P, class M, class V, class G>
struct Update {
  P* param;
  M* m;
  V* v;
  const G* grad;
  const float* norm;
  bf16* copy;
  int64_t size;
  const StepScalars* step;
  float beta1, beta2, eps;
  bool decay, wide;
};

// kN neighbouring weights a thread at a time; the last ones, fewer, one by one.
template <int kN, class P, class M, class V, class G>
__global__ void update_weights(Update<P, M, V, G> a) {
  let_next_start();
  wait_for_previous();
  const StepScalars step = *a.step;
  float clip = 1;
  if (!gradient_scale(step, a.norm, clip)) return;
  // One operation, not kept_share()'s two: runs keep the bits that they had.
  const float keep = a.decay ? 1.f - step.lr * step.weight_decay : 1.f;
  const float inv1 = 1.f / step.bias1, inv2 = 1.f / step.bias2;
  const auto update = [&](float& param, float& m, float& v, float grad) {
    const float g = grad * clip;
    m = fmaf(a.beta1, m, (1.f - a.beta1) * g);
    v = fmaf(a.beta2, v, (1.f - a.beta2) * (g * g));
    param = fmaf(-step.lr, m * inv1 / (sqrtf(v * inv2) + a.eps), param * keep);
  };
  const int64_t thread = int64_t{blockIdx.x} * kUpdateThreads + threadIdx.x,
                threads = int64_t{gridDim.x} * kUpdateThreads, packs = a.wide ? a.size / kN : 0;
  for (int64_t pack = thread; pack < packs; pack += threads) {
    const int64_t i = pack * kN;
    float p[kN], m[kN], v[kN], g[kN];
    load(a.grad + i, g);
    load(a.m + i, m);
    load(a.v + i, v);
    load(a.param + i, p);
#pragma unroll
    for (int j = 0; j < kN; ++j) update(p[j], m[j], v[j], g[j]);
    store(a.m + i, m);
    store(a.v + i, v);
    store(a.param + i, p);
    if (a.copy) store(a.copy + i, p);
  }
  for (int64_t i = packs * kN + thread; i < a.size; i += threads) {
    float p = as_float(a.param[i]), m = as_float(a.m[i]), v = as_float(a.v[i]);
    update(p, m, v, as_float(a.grad[i]));
    put(a.m + i, m);
    put(a.v + i, v);
    put(a.param + i, p);
    if (a.copy) put(a.copy + i, p);
  }
}

template <class P, class M, class V, class G>
void launch(const AdamWArgs& args) {
  // 16 bytes of what is fp32, or of what is bf16.
  constexpr int kN = sizeof(P) + sizeof(M) + sizeof(V) + sizeof(G) == 16 ? 4 : 8;
  const Update<P, M, V, G> a{args.param.ptr<P>(),
                             args.m.ptr<M>(),
                             args.v.ptr<V>(),
                             args.grad.ptr<const G>(),
                             args.norm.ptr<const float>(),
                             args.copy.defined() ? args.copy.ptr<bf16>() : nullptr,
                             args.param.size(),
                             args.step.ptr<const StepScalars>(),
                             args.beta1,
                             args.beta2,
                             args.eps,
                             args.decay,
                             by_packs(kN, {&args.param, &args.m, &args.v, &args.grad, &args.copy})};
  launch_early(update_weights<kN, P, M, V, G>, update_blocks(a.size, a.wide ? kN : 1), kUpdateThreads, 0, a);
}

void adamw(KernelContext&, const AdamWArgs& args) {
  if (args.param.size() == 0) return;
  const auto of = [](const TensorView& view, auto&& body) { for_float_type(view.dtype, "adamw", body); };
  of(args.param, [&]<class P>(P) {
    of(args.m, [&]<class M>(M) {
      of(args.v, [&]<class V>(V) { of(args.grad, [&]<class G>(G) { launch<P, M, V, G>(args); }); });
    });
  });
  check_launch("adamw");
}

const CudaKernel<GradSquaresArgs> kSquaresKernel{kGradSquares, &grad_squares};
const CudaKernel<GradNormArgs> kNormKernel{kGradNorm, &grad_norm};
const CudaKernel<AdamWArgs> kUpdateKernel{kAdamW, &adamw};

}  // namespace
}  // namespace flagscale::op
