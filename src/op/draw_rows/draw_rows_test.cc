#include "op/draw_rows/draw_rows.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

std::vector<int32_t> drawn(Isa isa, const Tensor& x, const std::vector<Draw>& hows) {
  std::vector<int32_t> words(hows.size() * kDrawWords);
  std::memcpy(words.data(), hows.data(), words.size() * sizeof(int32_t));
  const Tensor how = testing::int_tensor(words).reshape({std::ssize(hows), kDrawWords});
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, isa);
  Context c{recorder};
  const Tensor ids = draw_rows(c, x, how);
  return {ids.data<int32_t>(), ids.data<int32_t>() + hows.size()};
}

FLAGSCALE_EVERY_SET(DrawRowsSets);
TEST_P(DrawRowsSets, TheLowestOfTheLargestAndWhatIsNone) {
  const int64_t n = 5003;
  const Tensor x = testing::random_tensor({8, n}, 1, DType::kF32);
  const auto at = [&](int64_t row, int64_t column) -> float& { return x.data<float>()[row * n + column]; };
  at(0, 4000) = at(0, 1200) = at(0, 4999) = 50;  // a tie
  at(1, n - 1) = 50;
  for (int64_t i = 0; i < n; ++i)
    at(2, i) = -INFINITY, at(3, i) = -1 - static_cast<float>(i % 7), at(4, i) = -0.f;
  at(4, 9) = 0.f;
  at(5, 77) = NAN;
  at(6, 78) = INFINITY;
  at(7, 3) = -INFINITY;
  const float* last = x.data<float>() + 7 * n;
  const auto best = static_cast<int32_t>(std::max_element(last, last + n) - last);
  const std::vector<int32_t> want{
      1200, static_cast<int32_t>(n - 1), kAllMinusInfinity, 0, 0, kNotANumber, kNotANumber, best};
  EXPECT_EQ(drawn(GetParam(), x, std::vector<Draw>(8)), want);
  // What leaves one to draw draws it, and what is no number stays none.
  const std::vector<int32_t> sampled = drawn(GetParam(), x, std::vector<Draw>(8, {4.f, 0, 0, 1e-6f, 0.7}));
  for (const size_t row : {1, 2, 5, 6, 7}) EXPECT_EQ(sampled[row], want[row]) << row;
}

// In double, with bounds for what rounding may change.
struct Row {
  std::vector<double> weights;
  Row(const float* x, int64_t n, double scale) {
    const double top = *std::max_element(x, x + n);
    for (int64_t i = 0; i < n; ++i) weights.push_back(std::exp((static_cast<double>(x[i]) - top) * scale));
  }
  double least(const Draw& how) const {
    std::vector<double> sorted = weights;
    std::sort(sorted.rbegin(), sorted.rend());
    double bound = std::max<double>(static_cast<double>(how.min_p), 1e-38);
    if (how.top_k > 0 && how.top_k < std::ssize(sorted))
      bound = std::max(bound, sorted[static_cast<size_t>(how.top_k - 1)]);
    double all = 0, sum = 0;
    for (const double w : sorted) all += w >= bound ? w : 0;
    for (size_t i = 0; how.top_p < 1 && i < sorted.size() && sorted[i] >= bound; ++i) {
      sum += sorted[i];
      if (sum >= static_cast<double>(how.top_p) * all) bound = sorted[i];
    }
    return bound;
  }
  // Whether `id` is what `how` draws, to `slack` of the sum.
  void check(const Draw& how, int32_t id, double slack) const {
    const double bound = least(how);
    ASSERT_GE(id, 0);
    ASSERT_LT(id, std::ssize(weights));
    EXPECT_GE(weights[static_cast<size_t>(id)], bound * (1 - 1e-5));
    double all = 0, before = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      const double w = weights[i] >= bound * (1 - 1e-9) ? weights[i] : 0;
      all += w;
      if (static_cast<int32_t>(i) < id) before += w;
    }
    EXPECT_LE(before / all, how.uniform + slack);
    EXPECT_GE((before + weights[static_cast<size_t>(id)]) / all, how.uniform - slack);
  }
};

TEST_P(DrawRowsSets, DrawsByTemperatureRankMassAndMinimum) {
  const int64_t n = 30001, rows = 8;
  const Tensor x = testing::random_tensor({rows, n}, 1, DType::kF32);
  for (int64_t i = 0; i < rows * n; ++i)  // as peaked as a model's, and flat
    x.data<float>()[i] *= static_cast<float>(1 + i / n % 4 * 3);
  for (const Draw& kind : std::vector<Draw>{{1, 0, 0, 1, 0},
                                            {1.4f, 0, 0, 0.9f, 0},
                                            {0.5f, 0, 50, 1, 0},
                                            {1, 0, 1, 1, 0},
                                            {1, 0, 2000, 1, 0},
                                            {0.7f, 0.02f, 0, 1, 0},
                                            {1, 0, 40, 0.8f, 0},
                                            {0.1f, 0, 0, 0.999f, 0},
                                            {1, 0.01f, 30, 0.95f, 0}}) {
    std::vector<Draw> hows;
    for (int64_t r = 0; r < rows; ++r) {
      hows.push_back(kind);
      hows.back().uniform = std::fmod(0.37 + 0.618 * static_cast<double>(r), 1.0);
    }
    hows[1].uniform = 0, hows[2].uniform = 1 - 0x1p-53;
    const std::vector<int32_t> ids = drawn(GetParam(), x, hows);
    for (int64_t r = 0; r < rows; ++r) {
      SCOPED_TRACE(fmt::format("row {} scale {} min_p {} top_k {} top_p {}", r, kind.scale, kind.min_p,
                               kind.top_k, kind.top_p));
      Row(x.data<float>() + r * n, n, static_cast<double>(kind.scale))
          .check(hows[static_cast<size_t>(r)], ids[static_cast<size_t>(r)], 2e-5);
    }
    EXPECT_EQ(drawn(GetParam(), x, hows), ids);
  }
}

}  // namespace
}  // namespace flagscale::op
