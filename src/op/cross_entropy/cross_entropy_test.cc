#include "op/cross_entropy/cross_entropy.h"

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

struct Learned {
  Tensor loss, dhidden, dweight;
};

Tensor ones_but(int64_t n, int64_t zero) {
  const Tensor mask = make_tensor(testing::allocator(), {n}, DType::kF32);
  for (int64_t i = 0; i < n; ++i) mask.data<float>()[i] = i == zero ? 0.f : 1.f;
  return mask;
}

std::vector<int32_t> labels_of(int64_t n, int64_t vocab) {
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < n; ++i) labels.push_back(static_cast<int32_t>(i * 37 % vocab));
  return labels;
}

Learned learn(const Tensor& hidden, const Tensor& weight, Isa isa, const float* scale, const Tensor& mask,
              const LearntTokens* learnt = nullptr) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, isa);
  Tape tape = make_tape();
  tape.require(hidden);
  tape.require(weight);
  Context context{recorder, scale ? &tape : nullptr};
  const int64_t n = hidden.dim(0);
  const Tensor loss = head_loss(context, hidden, weight, testing::int_tensor(labels_of(n, weight.dim(0))),
                                mask, scale, learnt);
  return {loss, tape.grad(hidden), tape.grad(weight)};
}

Learned learn(const Tensor& hidden, const Tensor& weight, Isa isa, const float* scale) {
  return learn(hidden, weight, isa, scale, ones_but(hidden.dim(0), 3));
}

double plain_loss(const Tensor& hidden, const Tensor& weight, int64_t row, int64_t label) {
  const int64_t n = hidden.dim(1);
  double sum = 0, at_label = 0;
  for (int64_t v = 0; v < weight.dim(0); ++v) {
    double x = 0;
    for (int64_t i = 0; i < n; ++i) x += testing::get(hidden, row * n + i) * testing::get(weight, v * n + i);
    sum += std::exp(x);
    if (v == label) at_label = x;
  }
  return std::log(sum) - at_label;
}

TEST(HeadLoss, ValuesAndGradientsInDouble) {
  const float scale = 0.25f;
  const Tensor hidden = random_tensor({130, 6}, 1), weight = random_tensor({19, 6}, 2);
  const Learned got = learn(hidden, weight, Isa::kScalar, &scale);
  const auto labels = labels_of(130, 19);
  for (int64_t row : {0, 3, 64, 129})
    EXPECT_NEAR(testing::get(got.loss, row),
                row == 3 ? 0 : plain_loss(hidden, weight, row, labels[static_cast<size_t>(row)]), 1e-10);
  const auto total = [&] {
    const Tensor loss = learn(hidden, weight, Isa::kScalar, nullptr).loss;
    double sum = 0;
    for (int64_t i = 0; i < 130; ++i) sum += testing::get(loss, i);
    return sum * 0.25;
  };
  for (const auto& [tensor, grad] : {std::pair{hidden, got.dhidden}, std::pair{weight, got.dweight}})
    for (int64_t i = 0; i < tensor.shape().numel(); i += 11) {
      const double x = testing::get(tensor, i);
      testing::set(tensor, i, x + 1e-5);
      const double up = total();
      testing::set(tensor, i, x - 1e-5);
      const double down = total();
      testing::set(tensor, i, x);
      ASSERT_NEAR(testing::get(grad, i), (up - down) / 2e-5, 1e-6);
    }
}

FLAGSCALE_EVERY_SET(HeadLossSets);
TEST_P(HeadLossSets, AgreesWithScalarInDouble) {
  const float scale = 1.f;
  const Tensor hidden = random_tensor({70, 32}, 1), weight = random_tensor({301, 32}, 2);
  const Learned exact = learn(hidden, weight, Isa::kScalar, &scale);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Learned got =
        learn(testing::converted(hidden, dtype), testing::converted(weight, dtype), GetParam(), &scale);
    const double tolerance = dtype == DType::kF32 ? 1e-5 : 3e-2;
    EXPECT_LT(testing::relative_error(got.loss, exact.loss), tolerance);
    EXPECT_LT(testing::relative_error(got.dhidden, exact.dhidden), tolerance);
    EXPECT_LT(testing::relative_error(got.dweight, exact.dweight), tolerance);
  }
}

double largest_difference(const Tensor& a, const Tensor& b) {
  double difference = 0;
  for (int64_t i = 0; i < b.shape().numel(); ++i)
    difference = std::max(difference, std::fabs(testing::get(a, i) - testing::get(b, i)));
  return difference;
}

// Masks that leave all, about a third, the last ten, one token, none.
bool is_learnt(int which, int64_t i, int64_t tokens) {
  return which == 0 || (which == 1 && i % 3 == 1) || (which == 2 && i >= tokens - 10) ||
         (which == 3 && i == tokens / 2);
}

// A GPU's products of fewer rows have other last bits: relative errors, or 0 for bits.
double rounding_of(Isa isa, DType dtype) {
  return isa != Isa::kCuda ? 0 : dtype == DType::kF32 ? 1e-5 : 3e-2;
}

void expect_same_of_learnt_tokens(int64_t tokens, int64_t vocab, Isa isa, DType dtype, bool few_counts) {
  const float scale = 0.5f;
  const Tensor hidden = random_tensor({tokens, 8}, 1, dtype), weight = random_tensor({vocab, 8}, 2, dtype);
  LearntTokens learnt(make_tensor(testing::allocator(), {tokens}, DType::kI32), vocab, few_counts);
  const double rounding = rounding_of(isa, dtype);
  for (int which = 0; which < 5; ++which) {
    SCOPED_TRACE(which);
    const Tensor mask = make_tensor(testing::allocator(), {tokens}, DType::kF32);
    for (int64_t i = 0; i < tokens; ++i) mask.data<float>()[i] = is_learnt(which, i, tokens) ? 0.75f : 0.f;
    learnt.choose(mask.data<float>());
    const Learned all = learn(hidden, weight, isa, &scale, mask),
                  some = learn(hidden, weight, isa, &scale, mask, &learnt);
    EXPECT_LE(testing::relative_error(some.loss, all.loss), rounding);
    EXPECT_LE(testing::relative_error(some.dhidden, all.dhidden), rounding);
    for (int64_t i = 0; i < tokens; ++i) {
      if (is_learnt(which, i, tokens)) continue;
      ASSERT_EQ(testing::get(some.loss, i), 0);
      for (int64_t n = 0; n < 8; ++n) ASSERT_EQ(testing::get(some.dhidden, i * 8 + n), 0);
    }
    if (which == 0 || which == 4)
      EXPECT_EQ(largest_difference(some.dweight, all.dweight), 0);
    else  // its sums run over fewer tokens
      EXPECT_LT(testing::relative_error(some.dweight, all.dweight), std::max(1e-5, rounding));
    const Tensor alone = learn(hidden, weight, isa, nullptr, mask, &learnt).loss;
    EXPECT_LE(testing::relative_error(alone, all.loss), rounding);
  }
}

FLAGSCALE_EVERY_SET(LearntTokensSets);
TEST_P(LearntTokensSets, AreAllThatLogitsAreFormedFor) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const bool few_counts : {false, true})
      expect_same_of_learnt_tokens(150, 301, GetParam(), dtype, few_counts);
}

// Rows in packs of 16 bytes, rows that are not, and some of a row; of none nothing is written.
TEST_P(LearntTokensSets, RowsArePutWhereTheirTokensAre) {
  const Isa isa = GetParam();
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, isa);
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const int64_t cols : {1, 7, 64, 4104})
      for (const int64_t live : {0, 1, 5}) {
        SCOPED_TRACE(cols);
        const Tensor x = random_tensor({6, cols + 8}, 1, dtype).columns(0, cols).with_live(&live),
                     y = random_tensor({9, cols}, 2, dtype), before = testing::converted(y, dtype);
        const std::vector<int32_t> tokens{7, 0, 8, 3, 4, 1};
        recorder.launch(kPutRows, {x, testing::int_tensor(tokens).with_live(&live), y}, {});
        for (int64_t row = 0; row < 9; ++row) {
          const auto at = std::find(tokens.begin(), tokens.begin() + live, row) - tokens.begin();
          for (int64_t i = 0; i < cols; ++i)
            ASSERT_EQ(testing::get(y, row * cols + i), at < live ? testing::get(x, at * (cols + 8) + i)
                                                                 : testing::get(before, row * cols + i));
        }
      }
}

// How many rows the head takes, of an order that is checked.
int64_t rows_of_head(int64_t vocab, bool few_counts, int64_t learnt) {
  constexpr int64_t kTokens = 300;
  const LearntTokens tokens(make_tensor(testing::allocator(), {kTokens}, DType::kI32), vocab, few_counts);
  std::vector<float> mask(kTokens);
  for (int64_t i = 0; i < learnt; ++i) mask[static_cast<size_t>(i * 7 % kTokens)] = 0.5f;
  std::vector<int32_t> order(kTokens);
  const int64_t rows = tokens.order(mask.data(), order.data());
  for (int64_t i = 0; i < learnt; ++i) EXPECT_NE(mask[static_cast<size_t>(order[static_cast<size_t>(i)])], 0);
  std::sort(order.begin(), order.end());
  for (int32_t i = 0; i < kTokens; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
  return rows;
}

TEST(LearntTokens, ComeFirstAndAreFilledUpToFewCounts) {
  ASSERT_EQ(head_loss_rows(300, 140000), 64);
  ASSERT_EQ(head_loss_rows(300, 100), 300);
  for (const int64_t learnt : {0, 1, 64, 65, 299, 300}) EXPECT_EQ(rows_of_head(100, false, learnt), learnt);
  for (const int64_t vocab : {100, 140000})
    for (const auto& [learnt, rows] :
         {std::pair{0, 0}, {1, 64}, {64, 64}, {65, 128}, {256, 256}, {257, 300}, {300, 300}})
      EXPECT_EQ(rows_of_head(vocab, true, learnt), rows) << vocab << " " << learnt;
}

TEST(HeadLoss, LearntTokensFillChunkAfterChunk) {
  ASSERT_EQ(head_loss_rows(70, 140000), 64);
  expect_same_of_learnt_tokens(70, 140000, machine_isa(), DType::kF32, false);
}

TEST(HeadLoss, LogitsOfAMillionTokensWouldNotBeStored) {
  EXPECT_EQ(head_loss_rows(2048, 32000), 512);
  EXPECT_EQ(head_loss_rows(65536, 32000), 8192);
  EXPECT_EQ(head_loss_rows(int64_t{1} << 20, 32000), 16768);
  EXPECT_EQ(head_loss_rows(16, 32000), 16);
  EXPECT_EQ(head_loss_rows(int64_t{1} << 20, int64_t{1} << 20), 512);
}

}  // namespace
}  // namespace flagscale::op
