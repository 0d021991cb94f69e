#include "op/narrow_grouped/narrow_grouped.h"

#include <fmt/core.h>

#include <cstring>
#include <numeric>

#include "base/error.h"
#include "op/grouped_matmul/grouped_matmul.h"
#include "op/narrow_linear/narrow_weight_test_support.h"
#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::narrowed_weight;
using testing::NarrowedWeight;
using testing::random_tensor;

TEST(NarrowGrouped, RowsThatAreNoWholePanelsAreRefused) {
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder};
  const Tensor x = random_tensor({2, 1, 64}, 1, DType::kBF16), counts = testing::int_tensor({1, 1});
  EXPECT_THROW(narrow_grouped(c, x, counts, narrowed_weight(Narrow::kFp8, 48, 64).narrow), Error);
  EXPECT_THROW(narrow_grouped(c, x, counts, narrowed_weight(Narrow::kFp8Rows, 32, 64).narrow), Error);
}

FLAGSCALE_EVERY_SET(NarrowGroupedSets);

TEST_P(NarrowGroupedSets, IsTheProductOfTheWeightThatItStandsFor) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam()),
      exact(testing::allocator(), team, Isa::kScalar);
  Context c{recorder}, wide{exact};
  const Tensor counts = testing::int_tensor({3, 0, 1, 22});
  for (const Narrow format : testing::kMultiplied)
    for (const auto& [n, k] : {std::pair{16, 16}, {48, 64}, {80, 328}, {32, 70}}) {
      SCOPED_TRACE(fmt::format("{} {} {}", name(format), n, k));
      const NarrowedWeight weight = narrowed_weight(format, 4 * n, k);
      const Tensor x = random_tensor({13, 2, k}, 1, DType::kBF16);
      const auto to_double = [](const Tensor& t) { return testing::converted(t, DType::kF64); };
      const Tensor want = grouped_linear(wide, to_double(x), counts, to_double(weight.wide));
      EXPECT_LT(testing::relative_error(narrow_grouped(c, x, counts, weight.narrow), want), 5e-3);
    }
}

class NarrowGroupedGpu : public testing::EverySet {};
INSTANTIATE_TEST_SUITE_P(Set, NarrowGroupedGpu, ::testing::Values(Isa::kCuda));

// However many rows there are, by whichever kernel.
TEST_P(NarrowGroupedGpu, HasTheBitsOfTheWideProduct) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  Context c{recorder};
  for (const Narrow format : testing::kMultiplied)
    for (const auto& [n, k] : {std::pair{48, 64}, {80, 328}, {208, 2048}}) {
      const NarrowedWeight weight = narrowed_weight(format, 4 * n, k);
      for (const auto& of_experts : {std::vector<int32_t>{1, 0, 0, 0},
                                     {0, 5, 3, 0},
                                     {9, 8, 1, 2},
                                     {17, 0, 33, 60},
                                     {100, 7, 0, 120}}) {
        const int64_t rows = std::accumulate(of_experts.begin(), of_experts.end(), int64_t{0});
        SCOPED_TRACE(fmt::format("{} {} rows n {} k {}", name(format), rows, n, k));
        const Tensor x = random_tensor({rows, 1, k}, 1, DType::kBF16),
                     counts = testing::int_tensor(of_experts);
        const Tensor got = narrow_grouped(c, x, counts, weight.narrow),
                     want = grouped_linear(c, x, counts, weight.wide);
        ASSERT_EQ(std::memcmp(got.raw(), want.raw(), got.bytes()), 0);
      }
    }
}

}  // namespace
}  // namespace flagscale::op
