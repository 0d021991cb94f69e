#include "op/grouped_matmul/grouped_matmul.h"

#include <cstring>

#include "op/matmul/matmul.h"
#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::random_tensor;

testing::Function grouped(const std::vector<int32_t>& counts) {
  return [counts = testing::int_tensor(counts)](Context& c, const std::vector<Tensor>& in) {
    return grouped_linear(c, in[0], counts, in[1]);
  };
}

TEST(GroupedMatmul, EachExpertsRowsMeetItsWeight) {
  const std::vector<int32_t> counts{3, 0, 1, 4};
  const Tensor x = random_tensor({4, 2, 5}, 1), w = random_tensor({4 * 3, 5}, 2);
  const Tensor y = testing::run(grouped(counts), {x, w}, Isa::kScalar).output;
  int64_t row = 0;
  for (int64_t e = 0; e < 4; ++e)
    for (int32_t r = 0; r < counts[static_cast<size_t>(e)]; ++r, ++row)
      for (int64_t j = 0; j < 3; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < 5; ++k) sum += get(x, row * 5 + k) * get(w, (e * 3 + j) * 5 + k);
        EXPECT_NEAR(get(y, row * 3 + j), sum, 1e-13);
      }
}

TEST(GroupedMatmul, Gradients) {
  for (const auto& counts : {std::vector<int32_t>{3, 0, 1, 4}, {0, 8, 0, 0}})
    testing::expect_gradients(grouped(counts), {random_tensor({4, 2, 5}, 1), random_tensor({4 * 3, 5}, 2)});
}

FLAGSCALE_EVERY_CPU_SET(GroupedMatmulSets);
TEST_P(GroupedMatmulSets, AgreesWithScalarInDouble) {
  testing::expect_agrees(GetParam(), grouped({41, 0, 1, 80, 6}),
                         {random_tensor({64, 2, 70}, 1), random_tensor({5 * 45, 70}, 2)});
}

// An expert's rows are those of the plain product, to the bit; so is its weight's gradient, added or not.
TEST_P(GroupedMatmulSets, IsThePlainProductsToTheBit) {
  const std::vector<int32_t> counts{17, 0, 30, 1};
  constexpr int64_t kIn = 900, kOut = 48;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor x = testing::converted(random_tensor({24, 2, kIn}, 1), dtype),
                 w = testing::converted(random_tensor({4 * kOut, kIn}, 2), dtype),
                 dy = testing::converted(random_tensor({24, 2, kOut}, 3), dtype);
    const Team team(2);
    EagerRecorder recorder(testing::allocator(), team, GetParam());
    const Tensor rows = testing::int_tensor(counts);
    const Tensor y = recorder.empty({24, 2, kOut}, dtype),
                 dw = random_tensor({4 * kOut, kIn}, 4, DType::kF32),
                 dw_plain = random_tensor({4 * kOut, kIn}, 4, DType::kF32);
    recorder.launch(kGroupedMatmul, {x, w, rows, y, {}, true, nullptr});
    recorder.launch(kGroupedMatmul, {dy, x, rows, {}, dw, false, nullptr});
    int64_t first = 0;
    const auto flat = [](const Tensor& t) { return t.reshape({t.dim(0) * t.dim(1), t.dim(2)}); };
    for (int64_t e = 0; e < 4; ++e) {
      const int64_t n = counts[static_cast<size_t>(e)];
      if (n == 0) continue;
      const Tensor one = recorder.empty({n, kOut}, dtype), xe = flat(x).rows(first, n);
      recorder.launch(kMatmul, {xe, w.rows(e * kOut, kOut), one, {}, false, true, nullptr, {}});
      recorder.launch(
          kMatmul,
          {flat(dy).rows(first, n), xe, {}, dw_plain.rows(e * kOut, kOut), true, false, nullptr, {}});
      EXPECT_EQ(std::memcmp(one.raw(), flat(y).rows(first, n).raw(), one.bytes()), 0) << e;
      first += n;
    }
    EXPECT_EQ(std::memcmp(dw.raw(), dw_plain.raw(), dw.bytes()), 0);
  }
}

// The first micro-batch of a step overwrites: an expert that nobody chose has a gradient of zero.
TEST_P(GroupedMatmulSets, AnIdleExpertsGradientIsZeroNotOld) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  const Tensor dw = random_tensor({2 * 3, 5}, 4, DType::kF32);
  const int64_t accumulate = 0;
  recorder.launch(kGroupedMatmul, {random_tensor({2, 2, 3}, 1, DType::kF32),
                                   random_tensor({2, 2, 5}, 2, DType::kF32),
                                   testing::int_tensor({4, 0}),
                                   {},
                                   dw,
                                   false,
                                   &accumulate});
  for (int64_t i = 15; i < 30; ++i) EXPECT_EQ(get(dw, i), 0);
}

}  // namespace
}  // namespace flagscale::op
