// Attention of training on a GPU, forward and backward apart: TFLOP/s of the causal count, 4 operations a
// pair of query and key forward and 10 backward. attention_peer.py runs it beside PyTorch's.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "device/cuda/cuda.h"
#include "device/cuda/stopwatch.h"
#include "op/attention/attention.h"

namespace {

using namespace flagscale;
using namespace flagscale::op;

constexpr int kLaunches = 20;  // of one graph, which is what is timed
constexpr int kRounds = 5;

// Why there is nothing to time here; empty where there is.
std::string no_gpu() {
  if (!cuda::found().reason.empty()) return cuda::found().reason;
  return cuda::built() ? "" : "a GPU is here, but this program was built without its kernels: run ./dev cuda";
}

Tensor empty(const Shape& shape, DType dtype) {
  static const auto gpu = cuda::make_allocator();
  return make_tensor(*gpu, shape, dtype);
}

// Normal numbers, since what a GPU multiplies decides its clocks. Some are drawn, and repeat where no row
// begins.
Tensor drawn(const Shape& shape, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<BF16> some(1'000'003);
  for (BF16& x : some) x = to_bf16(normal(engine));
  const Tensor t = empty(shape, DType::kBF16);
  const size_t all = t.bytes() / sizeof(BF16);
  for (size_t at = 0; at < all; at += some.size())
    cuda::copy(t.data<BF16>() + at, some.data(), std::min(some.size(), all - at) * sizeof(BF16));
  return t;
}

struct Case {
  AttentionShape shape;
  Tensor q, k, v, dout, out, lse, dq, dk, dv, ends;
  double products;  // multiplications and additions of one product of queries and keys that see each other

  explicit Case(const benchmark::State& state) {
    const int64_t batch = state.range(0), length = state.range(1), tokens = batch * length;
    const int d = static_cast<int>(state.range(4));
    shape = {static_cast<int>(state.range(2)), static_cast<int>(state.range(3)), d,
             1 / std::sqrt(static_cast<float>(d)), 0};
    const Shape queries{tokens, int64_t{shape.heads} * d}, keys{tokens, int64_t{shape.kv_heads} * d};
    q = drawn(queries, 1), k = drawn(keys, 2), v = drawn(keys, 3), dout = drawn(queries, 4);
    out = empty(queries, DType::kBF16), dq = empty(queries, DType::kBF16);
    dk = empty(keys, DType::kBF16), dv = empty(keys, DType::kBF16);
    lse = empty({shape.heads, tokens}, DType::kF32), ends = empty({batch + 1}, DType::kI32);
    std::vector<int32_t> of_sequences;
    for (int64_t s = 0; s <= batch; ++s) of_sequences.push_back(static_cast<int32_t>(s * length));
    cuda::copy(ends.raw(), of_sequences.data(), ends.bytes());
    products = 2.0 * static_cast<double>(batch * shape.heads * d) * static_cast<double>(length) *
               static_cast<double>(length + 1) / 2;
  }
  AttentionArgs forward() const { return {q, k, v, ends, out, lse, nullptr, shape}; }
  AttentionBackwardArgs backward() const {
    return {q, k, v, ends, out, lse, dout, dq, dk, dv, nullptr, shape};
  }
};

// A kernel and the memory that it works in.
template <class Args>
class Launcher {
 public:
  Launcher(const KernelSlot<Args>& slot, const Args& args)
      : args_(args), kernel_(slot.kernel(DeviceKind::kCuda, Isa::kCuda)) {
    const size_t bytes = slot.workspace(DeviceKind::kCuda, Isa::kCuda, args, 1);
    if (bytes) room_ = empty({static_cast<int64_t>(bytes)}, DType::kU8);
  }
  void operator()() const {
    std::span<std::byte> room;
    if (room_.defined()) room = {static_cast<std::byte*>(room_.raw()), room_.bytes()};
    KernelContext context{{DeviceKind::kCuda, 0}, Isa::kCuda, team_, room};
    kernel_(context, args_);
  }

 private:
  Team team_{1};
  Args args_;
  typename KernelSlot<Args>::Kernel* kernel_;
  Tensor room_;
};

// By the GPU's own clock: a round is a graph of launches, and an iteration's time that of one of them.
void replay(benchmark::State& state, const auto& launch, double operations) {
  launch();  // the driver loads a kernel when it is first launched, which is not to be recorded
  cuda::synchronize();
  const cuda::Stopwatch watch;
  const cuda::Graph graph([&] {
    watch.start();
    for (int i = 0; i < kLaunches; ++i) launch();
    watch.stop();
  });
  const auto round = [&] {
    graph.launch();
    cuda::synchronize();
    return watch.seconds() / kLaunches;
  };
  round();
  double total = 0;
  for (auto _ : state) {
    const double seconds = round();
    state.SetIterationTime(seconds);
    total += seconds;
  }
  state.counters["TFLOP/s"] = operations * static_cast<double>(state.iterations()) / total / 1e12;
}

void forward(benchmark::State& state) {
  if (const std::string reason = no_gpu(); !reason.empty()) return state.SkipWithError(reason.c_str());
  const Case c(state);
  replay(state, Launcher(kAttention, c.forward()), 2 * c.products);
}

void backward(benchmark::State& state) {
  if (const std::string reason = no_gpu(); !reason.empty()) return state.SkipWithError(reason.c_str());
  const Case c(state);
  Launcher(kAttention, c.forward())();  // out and lse
  replay(state, Launcher(kAttentionBackward, c.backward()), 5 * c.products);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"B", "T", "H", "K", "d"})->Unit(benchmark::kMillisecond)->UseManualTime()->Iterations(kRounds);
  b->Args({64, 1024, 12, 12, 64});  // 124m
  b->Args({8, 4096, 32, 32, 64});
  b->Args({8, 4096, 32, 8, 64});  // 1b
  b->Args({2, 4096, 32, 32, 128});
  b->Args({1, 8192, 32, 8, 128});  // 8b
}
BENCHMARK(forward)->Apply(shapes);
BENCHMARK(backward)->Apply(shapes);

}  // namespace
