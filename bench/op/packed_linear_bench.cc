// Products of serving. One row is bound by reading the weight: «share» is its bytes per second over the
// bandwidth that a plain read of the same bytes reaches in the same loop. Many rows are bound by
// multiplication: «share» is over the best product of two large matrices here.
//
//   packed_linear_bench --benchmark_filter=Q8_0/.*/1$ ; FLAGSCALE_BENCH_CLOCK=cpu on a machine that others
//   keep busy

#include <benchmark/benchmark.h>
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "bench/op/measure.h"
#include "op/matmul/matmul.h"
#include "op/packed_linear/packed_linear.h"

namespace flagscale::bench {
namespace {

// Reads memory once, all threads together, in pieces as the kernel does.
double read_seconds(const Team& team, const Tensor& t) {
  constexpr int64_t kPiece = 1 << 16;
  const char* const base = static_cast<const char*>(t.raw());
  const int64_t bytes = static_cast<int64_t>(t.bytes());
  return seconds(team.size(), [&] {
    team.for_each((bytes + kPiece - 1) / kPiece, [&](int64_t piece) {
      __m128i sum[8] = {};
      const char* const p = base + piece * kPiece;
      const int64_t n = std::min(kPiece, bytes - piece * kPiece) / 128 * 128;
      for (int64_t i = 0; i < n; i += 128)
        for (int j = 0; j < 8; ++j)
          sum[j] = _mm_xor_si128(sum[j], _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i + 16 * j)));
      for (__m128i& s : sum) benchmark::DoNotOptimize(s);
    });
  });
}

// fp32 GFLOP/s of a product that nothing but multiplication binds.
double ceiling(const Team& team) {
  static double best = 0;
  if (best > 0) return best;
  const int64_t n = 768;
  const Tensor a = filled({n, n}, DType::kF32), b = filled({n, n}, DType::kF32),
               c = filled({n, n}, DType::kF32);
  const Call<op::MatmulArgs> call(op::kMatmul, {a, b, c, {}, false, false, nullptr, {}}, team);
  for (int i = 0; i < 20; ++i)
    best = std::max(best, 2e-9 * n * n * n / seconds(team.size(), [&] { call.run(); }));
  return best;
}

void linear(benchmark::State& state, int64_t rows, int64_t out, int64_t in, op::Packing packing, bool fast) {
  const Team team;
  const Tensor x = filled({rows, in}, DType::kF32),
               packed = make_tensor(memory(), op::packed_shape(packing, out, in), DType::kU8);
  std::memset(packed.raw(), 0x2c, packed.bytes());
  const Tensor y = filled({rows, out}, DType::kF32);
  const bool integer = op::info(packing).bits > 0;
  const auto& slot = !integer ? op::kPackedLinear : fast ? op::kPackedLinearInt8 : op::kPackedLinearExact;
  const Call<op::PackedLinearArgs> call(
      slot, {x, packed, {}, y, packing, fast && packing == op::Packing::kBF16}, team);
  double best = 1e9, read = 1e9;
  for (auto _ : state) {
    const double time = seconds(team.size(), [&] { call.run(); });
    best = std::min(best, time);
    if (rows == 1) read = std::min(read, read_seconds(team, packed));
    state.SetIterationTime(time);
  }
  const double flops = 2e-9 * static_cast<double>(rows) * static_cast<double>(out) * static_cast<double>(in);
  state.counters["GFLOP/s"] = flops / best;
  state.counters["GB/s"] = 1e-9 * static_cast<double>(packed.bytes()) / best;
  state.counters["share"] = rows == 1 ? read / best : flops / best / ceiling(team);
}

[[maybe_unused]] const bool kRegistered = [] {
  for (int format = 0; format < op::kNumPackings; ++format)
    for (const bool fast : {false, true})
      for (const auto& [out, in] :
           {std::pair<int64_t, int64_t>{49152, 576}, {9728, 896}, {896, 4864}, {8192, 2048}})
        for (const int64_t rows : {1, 8, 32, 512}) {
          const auto packing = static_cast<op::Packing>(format);
          if (in % op::info(packing).block != 0 && op::info(packing).source_bytes > 0) continue;
          if (fast && op::info(packing).bits == 0 && packing != op::Packing::kBF16) continue;
          benchmark::RegisterBenchmark(
              (std::string("packed_linear/") + op::info(packing).name + (fast ? "/fast/" : "/exact/") +
               std::to_string(out) + "x" + std::to_string(in) + "/" + std::to_string(rows))
                  .c_str(),
              [=, out = out, in = in](benchmark::State& state) {
                linear(state, rows, out, in, packing, fast);
              })
              ->UseManualTime()
              ->Unit(benchmark::kMillisecond)
              ->MinTime(0.05);
        }
  return true;
}();

}  // namespace
}  // namespace flagscale::bench
