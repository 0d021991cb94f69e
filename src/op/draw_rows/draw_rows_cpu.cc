// The meaning, for checks: engine/sampler.h draws on a CPU.
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "kernel/simd.h"
#include "op/draw_rows/draw_rows.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

uint64_t mass_of(float weight) { return static_cast<uint64_t>(weight * 0x1p40f); }

int32_t draw(const float* x, int64_t n, const Draw& how) {
  int32_t best = kAllMinusInfinity;
  float top = -__builtin_inff();
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] != x[i] || x[i] == __builtin_inff()) return kNotANumber;
    if (x[i] > top) top = x[i], best = static_cast<int32_t>(i);
  }
  if (how.scale == 0 || best < 0) return best;
  std::vector<float> weights(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) weights[static_cast<size_t>(i)] = std::exp((x[i] - top) * how.scale);
  std::vector<float> sorted = weights;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  float least = std::max(how.min_p, __FLT_MIN__);
  if (how.top_k > 0 && how.top_k < n) least = std::max(least, sorted[static_cast<size_t>(how.top_k - 1)]);
  const auto mass = [&] {
    uint64_t sum = 0;
    for (const float w : weights) sum += w >= least ? mass_of(w) : 0;
    return sum;
  };
  if (how.top_p < 1) {
    const auto wanted = static_cast<uint64_t>(static_cast<double>(mass()) * static_cast<double>(how.top_p));
    uint64_t sum = 0;
    for (const float w : sorted) {
      sum += mass_of(w);
      if (sum < wanted && w > least) continue;
      least = std::max(least, w);
      break;
    }
  }
  const uint64_t total = mass();
  auto left = std::min(total - 1, static_cast<uint64_t>(how.uniform * static_cast<double>(total)));
  for (int64_t i = 0; i < n; ++i) {
    const float w = weights[static_cast<size_t>(i)];
    const uint64_t own = w >= least ? mass_of(w) : 0;
    if (left < own) return static_cast<int32_t>(i);
    left -= own;
  }
  return best;  // not reached: the masses add up to more than `left`
}

void run(KernelContext& context, const DrawRowsArgs& args) {
  context.team.for_each(args.x.rows(), [&](int64_t row) {
    args.drawn.ptr<int32_t>()[row] =
        draw(args.x.ptr<const float>() + row * args.x.row_stride(), args.x.cols(),
             *reinterpret_cast<const Draw*>(args.how.ptr<const int32_t>() + row * args.how.row_stride()));
  });
}

const CpuKernel<DrawRowsArgs> kKernel{kDrawRows, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
