// Few rows wait for A and B, which are read once; many multiply from L2. First h = scale A x of every row,
// then y += B h: each sum is one chain of fused multiply-adds along its length, whatever the tile that it is
// in.
#include "base/check.h"
#include "kernel/simd.h"
#include "op/lora/lora.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

constexpr int64_t kTile = 4;                                            // rows
constexpr int64_t kDown = 4;                                            // ranks of a task
constexpr int kWide = F32::kLanes == 1 ? 8 : F32::kLanes == 8 ? 2 : 4;  // vectors of y at once
constexpr int64_t kUp = 256;                                            // columns of y of a task

struct OnePart : LoraAddition {
  In x, slots;
  int64_t experts;
};

// Calls body(part) for each projection.
template <class Body>
void for_parts(const LoraArgs& args, Body&& body) {
  for (const LoraAddition& part : args.parts)
    if (part.y.defined()) body(OnePart{part, args.x, args.slots, args.experts});
}

// What runs of neighbouring rows with one adapter need.
struct Run {
  int64_t which, rank;  // slot * experts + expert
};

int64_t most_rank(const OnePart& args) { return args.a.cols() / (args.x.cols() * args.experts); }

Run run_of(const OnePart& args, int64_t row) {
  const int64_t which = args.slots.ptr<const int32_t>()[row], slot = which / args.experts;
  if (which < 0) return {-1, 0};
  FLAGSCALE_CHECK(slot < args.a.dim(0));
  const int64_t rank = args.ranks.ptr<const int32_t>()[slot];
  FLAGSCALE_CHECK(rank >= 0 && rank <= most_rank(args));
  return {which, rank};
}

const float* matrix_of(const OnePart& args, const TensorView& all, const Run& run) {
  return all.ptr<const float>() + run.which / args.experts * all.row_stride() +
         run.which % args.experts * (all.cols() / args.experts);
}

// Calls body(run, row, n) for the runs of rows [first, last) that have something to add, n <= kTile.
template <class Body>
void for_runs(const OnePart& args, int64_t first, int64_t last, Body&& body) {
  while (first < last) {
    const Run run = run_of(args, first);
    int64_t n = 1;
    while (n < kTile && first + n < last && run_of(args, first + n).which == run.which) ++n;
    if (run.rank > 0) body(run, first, n);
    first += n;
  }
}

// h[r][j] = scale * sum over k of a[j][k] * x[r][k], for kRanks j from `begin` on.
template <int N, int kRanks>
void down_tile(const OnePart& args, const Run& run, int64_t row, int64_t begin, float* h) {
  const int64_t in = args.x.cols(), pitch = most_rank(args), x_row = args.x.row_stride();
  const float* x = args.x.ptr<const float>() + row * x_row;
  const float* a = matrix_of(args, args.a, run) + begin * in;
  const float scale = args.scales.ptr<const float>()[run.which / args.experts];
  F32 sum[kRanks][N];
#pragma GCC unroll 4
  for (int j = 0; j < kRanks; ++j)
#pragma GCC unroll 4
    for (int r = 0; r < N; ++r) sum[j][r] = F32::zero();
  const auto step = [&](const auto& load, int64_t k) {
    F32 rows[N];
#pragma GCC unroll 4
    for (int r = 0; r < N; ++r) rows[r] = load(x + r * x_row + k);
#pragma GCC unroll 4
    for (int j = 0; j < kRanks; ++j) {
      const F32 w = load(a + j * in + k);
#pragma GCC unroll 4
      for (int r = 0; r < N; ++r) sum[j][r] = F32::fma(rows[r], w, sum[j][r]);
    }
  };
  int64_t k = 0;
  for (; k + F32::kLanes <= in; k += F32::kLanes) step([](const float* p) { return F32::load(p); }, k);
  if (k < in) step([n = in - k](const float* p) { return F32::load_n(p, n); }, k);
#pragma GCC unroll 4
  for (int j = 0; j < kRanks; ++j)
#pragma GCC unroll 4
    for (int r = 0; r < N; ++r) h[r * pitch + begin + j] = scale * sum[j][r].sum();
}

template <int N>
void down(const OnePart& args, const Run& run, int64_t row, int64_t begin, int64_t end, float* h) {
  if (end - begin == kDown) return down_tile<N, kDown>(args, run, row, begin, h);
  for (; begin < end; ++begin) down_tile<N, 1>(args, run, row, begin, h);
}

// y[r][k] += sum over j of h[r][j] * b[j][k], for the columns [begin, end).
template <int N>
void up(const OnePart& args, const Run& run, int64_t row, int64_t begin, int64_t end, const float* h) {
  const int64_t out = args.y.cols(), pitch = most_rank(args), y_row = args.y.row_stride();
  float* y = args.y.ptr<float>() + row * y_row;
  const float* b = matrix_of(args, args.b, run);
  for (int64_t k = begin; k < end; k += kWide * F32::kLanes) {
    F32 sum[N][kWide];
#pragma GCC unroll 4
    for (int r = 0; r < N; ++r)
#pragma GCC unroll 8
      for (int i = 0; i < kWide; ++i) sum[r][i] = F32::zero();
    for (int64_t j = 0; j < run.rank; ++j) {
      F32 w[kWide];
#pragma GCC unroll 8
      for (int i = 0; i < kWide; ++i)
        w[i] = F32::load_n(b + j * out + k + i * F32::kLanes, end - k - i * F32::kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < N; ++r) {
        const F32 weight = F32::set(h[r * pitch + j]);
#pragma GCC unroll 8
        for (int i = 0; i < kWide; ++i) sum[r][i] = F32::fma(weight, w[i], sum[r][i]);
      }
    }
    for (int r = 0; r < N; ++r)
      for (int i = 0; i < kWide; ++i) {
        const int64_t n = end - k - i * F32::kLanes;
        if (n <= 0) break;
        float* to = y + r * y_row + k + i * F32::kLanes;
        (F32::load_n(to, n) + sum[r][i]).store_n(to, n);
      }
  }
}

// Calls body.template operator()<n>() for n in 1..kTile.
template <class Body>
void for_height(int64_t n, Body&& body) {
  switch (n) {
    case 4:
      return body.template operator()<4>();
    case 3:
      return body.template operator()<3>();
    case 2:
      return body.template operator()<2>();
    default:
      return body.template operator()<1>();
  }
}

int64_t rank_in_use(const OnePart& args, int64_t rows) {
  int64_t most = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t rank = run_of(args, row).rank;
    most = rank > most ? rank : most;
  }
  return most;
}

void run_part(KernelContext& context, const OnePart& args) {
  const int64_t rows = args.x.rows(), most = rank_in_use(args, rows), pitch = most_rank(args),
                out = args.y.cols();
  if (most == 0) return;
  float* const h = reinterpret_cast<float*>(context.workspace.data());
  const int64_t tiles = (rows + kTile - 1) / kTile;
  const int64_t downs = (most + kDown - 1) / kDown, ups = (out + kUp - 1) / kUp;
  const auto last = [&](int64_t first, int64_t size, int64_t end) {
    return first + size < end ? first + size : end;
  };
  // Waking the team costs more than a small product.
  const bool alone = rows * most * (args.x.cols() + out) < (1 << 16);
  const auto each = [&](int64_t n, auto&& body) { context.team.for_each(n, body, alone ? n : 1); };
  each(tiles * downs, [&](int64_t unit) {
    const int64_t row = unit / downs * kTile, begin = unit % downs * kDown;
    for_runs(args, row, last(row, kTile, rows), [&](const Run& run, int64_t first, int64_t n) {
      for_height(n, [&]<int N>() {
        down<N>(args, run, first, begin, last(begin, kDown, run.rank), h + first * pitch);
      });
    });
  });
  each(tiles * ups, [&](int64_t unit) {
    const int64_t row = unit / ups * kTile, begin = unit % ups * kUp;
    for_runs(args, row, last(row, kTile, rows), [&](const Run& run, int64_t first, int64_t n) {
      for_height(n,
                 [&]<int N>() { up<N>(args, run, first, begin, last(begin, kUp, out), h + first * pitch); });
    });
  });
}

void run(KernelContext& context, const LoraArgs& args) {
  FLAGSCALE_CHECK(args.x.dtype == DType::kF32);  // as all that a processor serves
  if (args.slots.size() == 0) return;
  for_parts(args, [&](const OnePart& part) { run_part(context, part); });
}

size_t workspace(const LoraArgs& args, int) {
  const int64_t rows = args.x.dims[0] * (args.x.rank == 3 ? args.x.dims[1] : 1);
  int64_t most = 0;
  for_parts(args, [&](const OnePart& part) { most = most_rank(part) > most ? most_rank(part) : most; });
  return static_cast<size_t>(rows * most) * sizeof(float);
}

const CpuKernel<LoraArgs> kKernel{kLora, kIsa, &run, &workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
