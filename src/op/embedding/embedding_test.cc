#include "op/embedding/embedding.h"

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

const testing::Function kLookUp = [](Context& c, const std::vector<Tensor>& in) {
  return embedding(c, testing::int_tensor({3, 0, 3, 6, 1}), in[0]);
};

TEST(Embedding, ReadsRows) {
  const Tensor table = random_tensor({7, 5}, 1);
  const Tensor y = testing::run(kLookUp, {table}, Isa::kScalar).output;
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(testing::get(y, 2 * 5 + i), testing::get(table, 3 * 5 + i));
}

TEST(Embedding, GradientsAddUpForRepeatedIds) {
  testing::expect_gradients(kLookUp, {random_tensor({7, 5}, 1)});
}

FLAGSCALE_EVERY_SET(EmbeddingSets);
TEST_P(EmbeddingSets, AgreesWithScalarInDouble) {
  testing::expect_agrees(GetParam(), kLookUp, {random_tensor({7, 150}, 1)});
}

TEST_P(EmbeddingSets, GradientsInBf16AreRoundedOnce) {
  testing::expect_rounded_sums(GetParam(), kLookUp, {random_tensor({7, 150}, 1)});
}

TEST(Embedding, AnIdOutsideTheTableReadsRowZero) {
  const Tensor table = random_tensor({4, 3}, 1);
  const testing::Function outside = [](Context& c, const std::vector<Tensor>& in) {
    return embedding(c, testing::int_tensor({-1, 99}), in[0]);
  };
  const Tensor y = testing::run(outside, {table}, Isa::kScalar).output;
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(testing::get(y, i), testing::get(table, i % 3));
}

}  // namespace
}  // namespace flagscale::op
