#include "op/matmul/matmul.h"

#include "base/error.h"
#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

const testing::Function kLinear = [](Context& c, const std::vector<Tensor>& in) {
  return linear(c, in[0], in[1], Tensor());
};
const testing::Function kBiased = [](Context& c, const std::vector<Tensor>& in) {
  return linear(c, in[0], in[1], in[2]);
};

Tensor product(Isa isa, const Tensor& a, const Tensor& b, bool trans_a, bool trans_b, DType out,
               int threads = 2) {
  const Team team(threads);
  EagerRecorder recorder(testing::allocator(), team, isa);
  const Tensor c = recorder.empty({a.dim(trans_a ? 1 : 0), b.dim(trans_b ? 0 : 1)}, out);
  launch_matmul(recorder, {a, b, c, {}, trans_a, trans_b, nullptr, {}});
  return c;
}

TEST(Matmul, EverySetTypeAndTranspositionAgainstThePlainSum) {
  const int64_t m = 45, n = 83, k = 401;
  for (const bool trans_a : {false, true})
    for (const bool trans_b : {false, true}) {
      const Tensor a = random_tensor(trans_a ? Shape{k, m} : Shape{m, k}, 1),
                   b = random_tensor(trans_b ? Shape{n, k} : Shape{k, n}, 2);
      const Tensor want = make_tensor(testing::allocator(), {m, n}, DType::kF64);
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
          double sum = 0;
          for (int64_t l = 0; l < k; ++l)
            sum += testing::get(a, trans_a ? l * m + i : i * k + l) *
                   testing::get(b, trans_b ? j * k + l : l * n + j);
          testing::set(want, i * n + j, sum);
        }
      EXPECT_LT(testing::relative_error(product(Isa::kScalar, a, b, trans_a, trans_b, DType::kF64), want),
                1e-13);
      for (const Isa isa : runnable_isas()) {
        SCOPED_TRACE(name(isa));
        const Tensor fa = testing::converted(a, DType::kF32), fb = testing::converted(b, DType::kF32);
        EXPECT_LT(testing::relative_error(product(isa, fa, fb, trans_a, trans_b, DType::kF32), want), 2e-6);
        const Tensor ha = testing::converted(a, DType::kBF16), hb = testing::converted(b, DType::kBF16);
        EXPECT_LT(testing::relative_error(product(isa, ha, hb, trans_a, trans_b, DType::kF32), want), 1e-2);
        EXPECT_LT(testing::relative_error(product(isa, ha, hb, trans_a, trans_b, DType::kBF16), want), 2e-2);
      }
    }
}

TEST(Matmul, Gradients) {
  testing::expect_gradients(kLinear, {random_tensor({9, 7}, 1), random_tensor({5, 7}, 2)});
  testing::expect_gradients(kBiased,
                            {random_tensor({9, 7}, 1), random_tensor({5, 7}, 2), random_tensor({5}, 3)});
}

TEST(Matmul, EverySet) {
  testing::expect_sets_agree(
      kBiased, {random_tensor({77, 100}, 1), random_tensor({65, 100}, 2), random_tensor({65}, 3)});
}

TEST(Matmul, ASumDependsOnItsLengthAlone) {
  const int64_t k = 1000;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor a = testing::converted(random_tensor({60, k}, 1), dtype),
                 b = testing::converted(random_tensor({100, k}, 2), dtype);
    for (const Isa isa : runnable_isas()) {
      SCOPED_TRACE(name(isa));
      const Tensor all = product(isa, a, b, false, true, DType::kF32),
                   one_thread = product(isa, a, b, false, true, DType::kF32, 1);
      for (int64_t row : {0, 13, 14, 59}) {
        const Tensor alone = product(isa, a.rows(row, 1), b, false, true, DType::kF32);
        for (int64_t j = 0; j < 100; ++j) {
          ASSERT_EQ(alone.data<float>()[j], all.data<float>()[row * 100 + j]);
          ASSERT_EQ(one_thread.data<float>()[row * 100 + j], all.data<float>()[row * 100 + j]);
        }
      }
    }
  }
}

TEST(Matmul, AccumulatesOrOverwritesAsTheSlotSays) {
  const Tensor a = random_tensor({20, 30}, 1, DType::kF32), b = random_tensor({20, 40}, 2, DType::kF32);
  const Tensor once = product(machine_isa(), a, b, true, false, DType::kF32);
  const Tensor sum = random_tensor({30, 40}, 3, DType::kF32);
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team);
  int64_t accumulate = 0;
  for (; accumulate < 3; ++accumulate) launch_matmul(recorder, {a, b, {}, sum, true, false, &accumulate, {}});
  for (int64_t i = 0; i < 1200; ++i) ASSERT_NEAR(testing::get(sum, i), 3 * testing::get(once, i), 1e-4);
}

TEST(Matmul, RefusesShapesThatDoNotFit) {
  EXPECT_THROW(
      product(machine_isa(), random_tensor({2, 3}, 1), random_tensor({4, 5}, 2), false, false, DType::kF64),
      Error);
}

}  // namespace
}  // namespace flagscale::op
