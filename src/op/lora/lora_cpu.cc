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

// A projection in one of the two products.
struct OnePart {
  const In& slots;
  const In& ranks;
  const In& matrices;  // a or b
  const float* scales;
  int64_t experts, size;  // size: of x's or y's rows
  int64_t first = 0;      // its columns of h
  int64_t most_rank() const { return matrices.cols() / (size * experts); }
};

// What runs of neighbouring rows with one adapter need.
struct Run {
  int64_t which, rank;  // slot * experts + expert
};

Run run_of(const OnePart& args, int64_t row) {
  const int64_t which = args.slots.ptr<const int32_t>()[row], slot = which / args.experts;
  if (which < 0) return {-1, 0};
  FLAGSCALE_CHECK(slot < args.matrices.dim(0));
  const int64_t rank = args.ranks.ptr<const int32_t>()[slot];
  FLAGSCALE_CHECK(rank >= 0 && rank <= args.most_rank());
  return {which, rank};
}

const float* matrix_of(const OnePart& args, const Run& run) {
  const In& all = args.matrices;
  return all.ptr<const float>() + run.which / args.experts * all.row_stride() +
         run.which % args.experts * (all.cols() / args.experts);
}

// A row of h: all parts' ranks, rounded up.
struct Hidden {
  float* data;
  int64_t pitch;
  float* row(int64_t i, const OnePart& part) const { return data + i * pitch + part.first; }
};

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

// h[r][j] = sum over k of a[j][k] * x[r][k], for kRanks j from `begin` on.
template <int N, int kRanks>
void down_tile(const OnePart& args, const In& all_x, const Run& run, int64_t row, int64_t begin,
               const Hidden& h) {
  const int64_t in = args.size, x_row = all_x.row_stride();
  const float* x = all_x.ptr<const float>() + row * x_row;
  const float* a = matrix_of(args, run) + begin * in;
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
    for (int r = 0; r < N; ++r) h.row(row + r, args)[begin + j] = sum[j][r].sum();
}

template <int N>
void down(const OnePart& args, const In& x, const Run& run, int64_t row, int64_t begin, int64_t end,
          const Hidden& h) {
  if (end - begin == kDown) return down_tile<N, kDown>(args, x, run, row, begin, h);
  for (; begin < end; ++begin) down_tile<N, 1>(args, x, run, row, begin, h);
}

// y[r][k] += sum over j of scale * h[r][j] * b[j][k], for the columns [begin, end).
template <int N>
void up(const OnePart& args, const InOut& all_y, const Run& run, int64_t row, int64_t begin, int64_t end,
        const Hidden& h) {
  const int64_t out = args.size, y_row = all_y.row_stride();
  float* y = all_y.ptr<float>() + row * y_row;
  const float* b = matrix_of(args, run);
  const float scale = args.scales[run.which / args.experts];
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
        const F32 weight = F32::set(scale * h.row(row + r, args)[j]);
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

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Calls body(run, first row, n, unit) for tiles of rows by `units` pieces of the other size.
template <class Body>
void for_tiles(KernelContext& context, const OnePart& part, int64_t rows, int64_t units, int64_t work,
               Body&& body) {
  const int64_t tiles = (rows + kTile - 1) / kTile;
  const bool alone = work < (1 << 16);  // waking the team costs more than a small product
  const auto one = [&](int64_t i) {
    const int64_t row = i / units * kTile;
    for_runs(part, row, least(row + kTile, rows),
             [&](const Run& run, int64_t first, int64_t n) { body(run, first, n, i % units); });
  };
  context.team.for_each(tiles * units, one, alone ? tiles * units : 1);
}

void run_down(KernelContext& context, const LoraDownArgs& args) {
  FLAGSCALE_CHECK(args.x.dtype == DType::kF32);  // as all that a processor serves
  const int64_t rows = args.x.rows(), in = args.x.cols();
  if (args.slots.size() == 0) return;
  const Hidden h{args.h.ptr<float>(), args.h.cols()};
  int64_t first = 0;
  for (const LoraDownPart& of : args.parts) {
    if (!of.a.defined()) break;
    const OnePart part{args.slots, of.ranks, of.a, nullptr, args.experts, in, first};
    first += (part.most_rank() + kLoraRanks - 1) / kLoraRanks * kLoraRanks;
    const int64_t most = rank_in_use(part, rows);
    if (most == 0) continue;
    for_tiles(context, part, rows, (most + kDown - 1) / kDown, rows * most * in,
              [&](const Run& run, int64_t row, int64_t n, int64_t unit) {
                const int64_t begin = unit * kDown;
                for_height(n, [&]<int N>() {
                  down<N>(part, args.x, run, row, begin, least(begin + kDown, run.rank), h);
                });
              });
  }
}

void run_up(KernelContext& context, const LoraUpArgs& args) {
  if (args.slots.size() == 0) return;
  const Hidden h{args.h.ptr<float>(), args.h.cols()};
  int64_t first = 0;
  for (const LoraUpPart& of : args.parts) {
    if (!of.b.defined()) break;
    const int64_t rows = of.y.rows(), out = of.y.cols();
    const OnePart part{args.slots, of.ranks, of.b, of.scales.ptr<const float>(), args.experts, out, first};
    first += (part.most_rank() + kLoraRanks - 1) / kLoraRanks * kLoraRanks;
    const int64_t most = rank_in_use(part, rows);
    if (most == 0) continue;
    for_tiles(context, part, rows, (out + kUp - 1) / kUp, rows * most * out,
              [&](const Run& run, int64_t row, int64_t n, int64_t unit) {
                const int64_t begin = unit * kUp;
                for_height(n,
                           [&]<int N>() { up<N>(part, of.y, run, row, begin, least(begin + kUp, out), h); });
              });
  }
}

const CpuKernel<LoraDownArgs> kDownKernel{kLoraDown, kIsa, &run_down};
const CpuKernel<LoraUpArgs> kUpKernel{kLoraUp, kIsa, &run_up};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
