#include "op/packed_linear/packed_linear.h"

#include "base/error.h"
#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

struct Packed {
  Tensor weight, packed, bias;  // weight fp32, as the packed copy holds it
  Packed(int64_t out, int64_t in, DType dtype)
      : weight(testing::converted(testing::converted(random_tensor({out, in}, 1), dtype), DType::kF32)),
        packed(make_tensor(testing::allocator(), packed_shape(out, in), dtype)),
        bias(random_tensor({out}, 2, DType::kF32)) {
    for (int64_t row = 0; row < out; row += 7)  // in pieces, as a loader streams them
      pack_rows(packed, row, std::min<int64_t>(7, out - row), weight.data<float>() + row * in);
  }
  Tensor run(const Tensor& x, Isa isa, int threads = 2) const {
    const Team team(threads);
    EagerRecorder recorder(testing::allocator(), team, isa);
    Context context{recorder, nullptr};
    return packed_linear(context, x, packed, weight.dim(0), bias);
  }
};

FLAGSCALE_EVERY_SET(PackedLinearSets);
TEST_P(PackedLinearSets, EveryTypeAgainstThePlainSum) {
  const Tensor x = random_tensor({30, 65}, 3, DType::kF32);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Packed p(75, 65, dtype);
    const Tensor want = make_tensor(testing::allocator(), {30, 75}, DType::kF64);
    for (int64_t i = 0; i < 30; ++i)
      for (int64_t j = 0; j < 75; ++j) {
        double sum = testing::get(p.bias, j);
        for (int64_t k = 0; k < 65; ++k)
          sum += testing::get(x, i * 65 + k) * testing::get(p.weight, j * 65 + k);
        testing::set(want, i * 75 + j, sum);
      }
    EXPECT_LT(testing::relative_error(p.run(x, GetParam()), want), 1e-6);
  }
}

TEST_P(PackedLinearSets, ARowIsTheSameAloneAndInAnyBatch) {
  const Tensor x = random_tensor({401, 100}, 3, DType::kF32);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Packed p(70, 100, dtype);
    const Tensor all = p.run(x, GetParam()), one_thread = p.run(x, GetParam(), 1);
    for (int64_t row : {0, 11, 12, 200, 400}) {
      const Tensor alone = p.run(x.rows(row, 1), GetParam());
      for (int64_t j = 0; j < 70; ++j) {
        ASSERT_EQ(alone.data<float>()[j], all.data<float>()[row * 70 + j]);
        ASSERT_EQ(one_thread.data<float>()[row * 70 + j], all.data<float>()[row * 70 + j]);
      }
    }
  }
}

TEST_P(PackedLinearSets, RowsOfATable) {
  const Packed p(75, 10, DType::kBF16);
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  Context context{recorder, nullptr};
  const Tensor y = packed_rows(context, testing::int_tensor({74, 0, -3}), p.packed, 75);
  for (int64_t k = 0; k < 10; ++k) {
    EXPECT_EQ(testing::get(y, k), testing::get(p.weight, 740 + k));
    EXPECT_EQ(testing::get(y, 20 + k), testing::get(p.weight, k));
  }
}

TEST(PackedLinear, RefusesAnotherShape) {
  const Packed p(75, 10, DType::kF32);
  EXPECT_THROW(p.run(random_tensor({2, 11}, 1, DType::kF32), Isa::kScalar), Error);
}

}  // namespace
}  // namespace flagscale::op
