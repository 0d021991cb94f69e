// A mixture's products in training beside the dense product of the same active FLOPs: tokens x (top_k * out)
// x in. Both alternate in one loop; the best time of each counts. «ratio» is the mixture's over the dense
// one's.
//
//   grouped_matmul_bench --benchmark_filter=even

#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>

#include "bench/op/measure.h"
#include "op/grouped_matmul/grouped_matmul.h"
#include "op/matmul/matmul.h"

namespace flagscale::bench {
namespace {

enum class Use { kForward, kInput, kWeight };
struct Case {
  Use use;
  DType dtype;
  int64_t tokens, experts, top_k, out, in;
  bool skewed;  // half of all rows to one expert
};

Tensor counts_of(const Case& c) {
  const Tensor counts = make_tensor(memory(), {c.experts}, DType::kI32);
  const int64_t rows = c.tokens * c.top_k, first = c.skewed ? c.tokens : rows / c.experts;
  int64_t left = rows - first;
  counts.data<int32_t>()[0] = static_cast<int32_t>(first);
  for (int64_t e = 1; e < c.experts; ++e) {
    const int64_t n = left / (c.experts - e);
    counts.data<int32_t>()[e] = static_cast<int32_t>(n);
    left -= n;
  }
  return counts;
}

// The tensors of both products, which the views of their arguments do not keep.
struct Products {
  Tensor x, y, w, counts, dense_x, dense_y, dense_w;
  op::GroupedMatmulArgs grouped;
  op::MatmulArgs dense;

  Products(const Case& c, const int64_t* overwrite)
      : x(filled({c.tokens, c.top_k, c.in}, c.dtype)),
        y(filled({c.tokens, c.top_k, c.out}, c.dtype)),
        w(filled({c.experts * c.out, c.in}, c.use == Use::kWeight ? DType::kF32 : c.dtype)),
        counts(counts_of(c)),
        dense_x(filled({c.tokens, c.in}, c.dtype)),
        dense_y(filled({c.tokens, c.top_k * c.out}, c.dtype)),
        dense_w(filled({c.top_k * c.out, c.in}, w.dtype())) {
    if (c.use == Use::kForward) {
      grouped = {x, w, counts, y, {}, true, nullptr};
      dense = {dense_x, dense_w, dense_y, {}, false, true, nullptr, {}};
    } else if (c.use == Use::kInput) {
      grouped = {y, w, counts, x, {}, false, nullptr};
      dense = {dense_y, dense_w, dense_x, {}, false, false, nullptr, {}};
    } else {
      grouped = {y, x, counts, {}, w, false, overwrite};
      dense = {dense_y, dense_x, {}, dense_w, true, false, overwrite, {}};
    }
  }
};

void product(benchmark::State& state, const Case& c) {
  const int64_t overwrite = 0;
  const Team team;
  const Products products(c, &overwrite);
  const Call<op::GroupedMatmulArgs> call(op::kGroupedMatmul, products.grouped, team);
  const Call<op::MatmulArgs> peer(op::kMatmul, products.dense, team);
  double ours = 1e9, theirs = 1e9;
  for (auto _ : state) {
    const double time = seconds(team.size(), [&] { call.run(); });
    ours = std::min(ours, time);
    theirs = std::min(theirs, seconds(team.size(), [&] { peer.run(); }));
    state.SetIterationTime(time);
  }
  const double flops = 2e-9 * static_cast<double>(c.tokens * c.top_k * c.out) * static_cast<double>(c.in);
  state.counters["GFLOP/s"] = flops / ours;
  state.counters["dense"] = flops / theirs;
  state.counters["ratio"] = ours / theirs;
}

struct Layer {
  int64_t tokens, experts, top_k, out, in;
};
// Mixtral's proportions and Qwen3-MoE's, in small: gate and up, then down.
constexpr Layer kLayers[] = {
    {2048, 8, 2, 1536, 576}, {2048, 8, 2, 576, 768}, {2048, 128, 8, 768, 1024}, {2048, 128, 8, 1024, 384}};

[[maybe_unused]] const bool kRegistered = [] {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const Layer& l : kLayers)
      for (const bool skewed : {false, true})
        for (const auto& [use, text] :
             {std::pair{Use::kForward, "y"}, std::pair{Use::kInput, "dx"}, std::pair{Use::kWeight, "dw"}})
          benchmark::RegisterBenchmark(
              (std::string(skewed ? "skewed/" : "even/") + (dtype == DType::kF32 ? "f32/" : "bf16/") + text +
               "/" + std::to_string(l.tokens) + "x" + std::to_string(l.top_k) + "of" +
               std::to_string(l.experts) + "x" + std::to_string(l.out) + "x" + std::to_string(l.in))
                  .c_str(),
              [c = Case{use, dtype, l.tokens, l.experts, l.top_k, l.out, l.in, skewed}](
                  benchmark::State& state) { product(state, c); })
              ->UseManualTime()
              ->Unit(benchmark::kMillisecond)
              ->MinTime(0.1);
  return true;
}();

}  // namespace
}  // namespace flagscale::bench
