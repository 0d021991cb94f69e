// Products of training: forward, the gradient of the input, the gradient of the weight, for the shapes of the
// models that `flagscale bench train` knows. Ours and oneDNN's alternate in one loop, so that both see the
// same machine; the best time of each counts. «share» is ours over oneDNN's.
//
//   matmul_bench --benchmark_filter=f32 ; FLAGSCALE_THREADS=1 OMP_NUM_THREADS=1 for one thread

#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>

#include "bench/op/measure.h"
#include "bench/op/product_peer.h"
#include "op/matmul/matmul.h"

namespace flagscale::bench {
namespace {

enum class Use { kForward, kInput, kWeight };
struct Case {
  Use use;
  DType dtype;
  int64_t tokens, out, in;
};

void product(benchmark::State& state, const Case& c) {
  const Tensor x = filled({c.tokens, c.in}, c.dtype), w = filled({c.out, c.in}, c.dtype),
               y = filled({c.tokens, c.out}, c.dtype);
  const bool weight = c.use == Use::kWeight, forward = c.use == Use::kForward;
  const Tensor& a = forward ? x : y;
  const Tensor& b = weight ? x : w;
  const Tensor out = weight ? filled({c.out, c.in}, DType::kF32) : forward ? y : x;
  op::MatmulArgs args{a, b, {}, {}, weight, forward, nullptr, {}};
  if (weight)
    args.sum = out;
  else
    args.out = out;
  const int64_t overwrite = 0;  // the peer does not add
  args.accumulate = &overwrite;

  const Team team;
  const Call<op::MatmulArgs> call(op::kMatmul, args, team);
  const ProductPeer peer(a, b, out, weight, forward);

  double ours = 1e9, theirs = 1e9;
  for (auto _ : state) {
    const double time = seconds(team.size(), [&] { call.run(); });
    ours = std::min(ours, time);
    if (ProductPeer::available()) theirs = std::min(theirs, seconds(team.size(), [&] { peer.run(); }));
    state.SetIterationTime(time);
  }
  const double flops =
      2e-9 * static_cast<double>(c.tokens) * static_cast<double>(c.out) * static_cast<double>(c.in);
  state.counters["GFLOP/s"] = flops / ours;
  if (!ProductPeer::available()) return;
  state.counters["oneDNN"] = flops / theirs;
  state.counters["share"] = theirs / ours;
}

struct Layer {
  int64_t tokens, out, in;
};
constexpr Layer kLayers[] = {{2048, 288, 288},  {2048, 768, 288}, {2048, 288, 768},  {2048, 32000, 288},
                             {256, 768, 768},   {256, 2304, 768}, {256, 50304, 768}, {1024, 2048, 768},
                             {1024, 768, 2048}, {1024, 576, 576}, {1024, 1536, 576}, {1024, 576, 1536},
                             {256, 49152, 576}, {4096, 768, 768}};

[[maybe_unused]] const bool kRegistered = [] {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const Layer& l : kLayers)
      for (const auto& [use, text] :
           {std::pair{Use::kForward, "y"}, std::pair{Use::kInput, "dx"}, std::pair{Use::kWeight, "dw"}})
        benchmark::RegisterBenchmark(
            ("matmul/" + std::string(dtype == DType::kF32 ? "f32" : "bf16") + "/" + text + "/" +
             std::to_string(l.tokens) + "x" + std::to_string(l.out) + "x" + std::to_string(l.in))
                .c_str(),
            [c = Case{use, dtype, l.tokens, l.out, l.in}](benchmark::State& state) { product(state, c); })
            ->UseManualTime()
            ->Unit(benchmark::kMillisecond)
            ->MinTime(0.1);
  return true;
}();

}  // namespace
}  // namespace flagscale::bench
