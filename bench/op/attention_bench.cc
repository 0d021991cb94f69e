// Attention of training, forward and backward, and of serving over pages: GFLOP/s (or GB/s) and the share of
// the floor that binds it, which is measured here first: fused multiply-adds in registers, or a sum over
// memory.
#include <benchmark/benchmark.h>
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <vector>

#include "op/attention/attention.h"
#include "op/paged_attention/paged_attention.h"

namespace {

using namespace flagscale;
using namespace flagscale::op;

constexpr int kChains = 12;
volatile float sink;

[[gnu::target("avx512f")]] void spin512(int64_t n) {
  __m512 x[kChains];
  for (int j = 0; j < kChains; ++j) x[j] = _mm512_set1_ps(static_cast<float>(j));
  const __m512 a = _mm512_set1_ps(0.5f);
  for (int64_t i = 0; i < n; ++i)
#pragma GCC unroll 12
    for (int j = 0; j < kChains; ++j) x[j] = _mm512_fmadd_ps(x[j], a, a);
  for (int j = 0; j < kChains; ++j) sink = x[j][0];
}
[[gnu::target("avx2,fma")]] void spin256(int64_t n) {
  __m256 x[kChains];
  for (int j = 0; j < kChains; ++j) x[j] = _mm256_set1_ps(static_cast<float>(j));
  const __m256 a = _mm256_set1_ps(0.5f);
  for (int64_t i = 0; i < n; ++i)
#pragma GCC unroll 12
    for (int j = 0; j < kChains; ++j) x[j] = _mm256_fmadd_ps(x[j], a, a);
  for (int j = 0; j < kChains; ++j) sink = x[j][0];
}

// One thread is timed by its processor time, so that what else runs on the machine counts less; two by the
// clock.
double now(int threads) {
  if (threads > 1)
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Best of some runs, in units a second.
template <class F>
double best_rate(double units, int threads, F&& run) {
  double best = 1e30;
  for (int i = 0; i < 10; ++i) {
    const double start = now(threads);
    run();
    best = std::min(best, now(threads) - start);
  }
  return units / best;
}

double peak_flops(int threads) {
  const Team team(threads);
  const bool wide = machine_isa() >= Isa::kAvx512;
  if (machine_isa() < Isa::kAvx2) return 0;
  constexpr int64_t kSteps = 1000000;
  const double flops = 2.0 * kChains * (wide ? 16 : 8) * kSteps * threads;
  return best_rate(flops, threads, [&] { team.run([&](int) { wide ? spin512(kSteps) : spin256(kSteps); }); });
}

double read_bandwidth(int threads) {
  const Team team(threads);
  const size_t size = size_t{256} << 20;
  static std::vector<int64_t> memory(size / 8, 1);
  return best_rate(static_cast<double>(size), threads, [&] {
    team.for_each(64, [&](int64_t part) {
      int64_t sum = 0;
      const int64_t* p = memory.data() + part * static_cast<int64_t>(size / 512);
      for (size_t i = 0; i < size / 512; ++i) sum += p[i];
      sink = static_cast<float>(sum);
    });
  });
}

Tensor filled(const Shape& shape, DType dtype) {
  static const auto allocator = make_cpu_allocator();
  const Tensor t = make_tensor(*allocator, shape, dtype);
  uint32_t state = 1;
  for (int64_t i = 0; i < shape.numel(); ++i) {
    state = state * 1664525u + 1013904223u;
    const float x = static_cast<float>(state >> 8) / 8388608.f - 1.f;
    if (dtype == DType::kF32)
      t.data<float>()[i] = x;
    else if (dtype == DType::kBF16)
      t.data<BF16>()[i] = to_bf16(x);
    else
      t.data<int32_t>()[i] = 0;
  }
  return t;
}

// Runs a kernel on arguments made once.
template <class Args>
void replay(benchmark::State& state, const KernelSlot<Args>& slot, const Args& args, int threads, double work,
            double floor, const char* unit) {
  const Team team(threads);
  const Isa isa = machine_isa();
  const auto kernel = slot.kernel(DeviceKind::kCpu, isa);
  const size_t bytes = slot.workspace(DeviceKind::kCpu, isa, args, threads);
  const Tensor workspace = filled({static_cast<int64_t>(bytes / 4 + 16)}, DType::kF32);
  KernelContext context{{DeviceKind::kCpu, 0}, isa, team, {static_cast<std::byte*>(workspace.raw()), bytes}};
  double best = 1e30;
  for (auto _ : state) {
    const double start = now(threads);
    kernel(context, args);
    best = std::min(best, now(threads) - start);
  }
  state.counters[unit] = work / best / 1e9;  // of the best run
  state.counters["share_%"] = 100 * work / best / floor;
  state.counters["workspace_MiB"] = static_cast<double>(bytes) / (1 << 20);
}

struct Case {
  Tensor q, k, v, out, lse, dout, dq, dk, dv, ends;
  AttentionShape shape;
  int64_t sequences;
  double pairs;  // visible, over all heads

  Case(int64_t batch, int64_t length, int heads, int kv_heads, int d, DType dtype)
      : shape{heads, kv_heads, d, 0.125f, 0}, sequences(batch) {
    const int64_t tokens = batch * length;
    q = filled({tokens, int64_t{heads} * d}, dtype), k = filled({tokens, int64_t{kv_heads} * d}, dtype);
    v = filled(k.shape(), dtype), out = filled(q.shape(), dtype), dout = filled(q.shape(), dtype);
    dq = filled(q.shape(), dtype), dk = filled(k.shape(), dtype), dv = filled(k.shape(), dtype);
    lse = filled({heads, tokens}, DType::kF32), ends = filled({batch + 1}, DType::kI32);
    for (int64_t s = 0; s <= batch; ++s) ends.data<int32_t>()[s] = static_cast<int32_t>(s * length);
    pairs = static_cast<double>(batch * heads) * static_cast<double>(length) *
            static_cast<double>(length + 1) / 2;
  }
};

// batch, length, heads, kv heads, head_dim, bf16, threads
Case case_of(const benchmark::State& s) {
  return {s.range(0),
          s.range(1),
          static_cast<int>(s.range(2)),
          static_cast<int>(s.range(3)),
          static_cast<int>(s.range(4)),
          s.range(5) ? DType::kBF16 : DType::kF32};
}

double floor_of(int threads) {
  static const double floors[] = {peak_flops(1), peak_flops(2)};
  return threads == 1 ? floors[0] : floors[1];
}

void forward(benchmark::State& state) {
  const Case c = case_of(state);
  const int threads = static_cast<int>(state.range(6));
  const AttentionArgs args{c.q, c.k, c.v, c.ends, c.out, c.lse, nullptr, c.shape};
  replay(state, kAttention, args, threads, 4 * c.pairs * c.shape.head_dim, floor_of(threads), "GFLOP/s");
}

void backward(benchmark::State& state) {
  const Case c = case_of(state);
  const int threads = static_cast<int>(state.range(6));
  const Team team(1);
  const AttentionBackwardArgs args{c.q,    c.k,  c.v,  c.ends, c.out,   c.lse,
                                   c.dout, c.dq, c.dk, c.dv,   nullptr, c.shape};
  replay(state, kAttentionBackward, args, threads, 10 * c.pairs * c.shape.head_dim, floor_of(threads),
         "GFLOP/s");
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"B", "T", "H", "K", "d", "bf16", "threads"})->Unit(benchmark::kMillisecond)->UseRealTime();
  for (const int bf16 : {0, 1})
    for (const int threads : {1, 2}) {
      b->Args({8, 256, 6, 6, 48, bf16, threads});     // 15M
      b->Args({4, 64, 12, 12, 64, bf16, threads});    // 124M, short
      b->Args({1, 1024, 12, 12, 64, bf16, threads});  // 124M
      b->Args({1, 2048, 9, 3, 64, bf16, threads});    // SmolLM2-135M
      b->Args({1, 1024, 8, 2, 128, bf16, threads});
    }
}
BENCHMARK(forward)->Apply(shapes);
BENCHMARK(backward)->Apply(shapes);

// One step over pages: sequences with `context` keys each, `queries` rows each.
void paged(benchmark::State& state) {
  const int64_t sequences = state.range(0), context = state.range(1), queries = state.range(2);
  const int heads = static_cast<int>(state.range(3)), kv_heads = static_cast<int>(state.range(4)),
            d = static_cast<int>(state.range(5));
  const DType dtype = state.range(6) ? DType::kBF16 : DType::kF32;
  const int threads = static_cast<int>(state.range(7));
  const int64_t pages = (context + kPageTokens - 1) / kPageTokens;
  const Tensor q = filled({sequences * queries, int64_t{heads} * d}, DType::kF32),
               out = filled(q.shape(), DType::kF32);
  const Tensor k = filled(k_pages_shape(sequences * pages, kv_heads, d), dtype),
               v = filled(v_pages_shape(sequences * pages, kv_heads, d), dtype);
  const Tensor table = filled({sequences, pages}, DType::kI32), ends = filled({sequences + 1}, DType::kI32),
               lens = filled({sequences}, DType::kI32);
  for (int64_t i = 0; i < sequences * pages; ++i)  // every page once, not in order
    table.data<int32_t>()[i] = static_cast<int32_t>(i * 7919 % (sequences * pages));
  for (int64_t s = 0; s < sequences; ++s) {
    lens.data<int32_t>()[s] = static_cast<int32_t>(context);
    ends.data<int32_t>()[s + 1] = static_cast<int32_t>((s + 1) * queries);
  }
  const PagedAttentionArgs args{q, k, v, table, ends, lens, out, nullptr, {heads, kv_heads, d, 0.125f, 0},
                                {}};
  const double pairs = static_cast<double>(sequences * queries * heads) *
                       (static_cast<double>(context) - static_cast<double>(queries - 1) / 2);
  static const double bandwidths[] = {read_bandwidth(1), read_bandwidth(2)};
  if (queries == 1)
    replay(state, kPagedAttention, args, threads, static_cast<double>(k.bytes() + v.bytes()),
           bandwidths[threads == 1 ? 0 : 1], "GB/s");
  else
    replay(state, kPagedAttention, args, threads, 4 * pairs * d, floor_of(threads), "GFLOP/s");
}

void steps(benchmark::internal::Benchmark* b) {
  b->ArgNames({"S", "context", "queries", "H", "K", "d", "bf16", "threads"})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
  for (const int bf16 : {0, 1})
    for (const int threads : {1, 2}) {
      b->Args({1, 65536, 1, 9, 3, 64, bf16, threads});  // one long context
      b->Args({64, 1024, 1, 9, 3, 64, bf16, threads});  // a batch
      b->Args({32, 1024, 1, 32, 8, 128, bf16, threads});
      b->Args({1, 1024, 1024, 9, 3, 64, bf16, threads});  // a prompt
      b->Args({1, 4096, 256, 9, 3, 64, bf16, threads});   // a later chunk
    }
}
BENCHMARK(paged)->Apply(steps);

}  // namespace
