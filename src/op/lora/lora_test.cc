#include "op/lora/lora.h"

#include "base/error.h"
#include "op/expert_rows/expert_rows.h"
#include "op/grouped_matmul/grouped_matmul.h"
#include "op/lora/adapted_linear.h"
#include "op/matmul/matmul.h"
#include "op/op_testing.h"
#include "op/packed_linear/packed_weight_test_support.h"
#include "op/packed_linear/unpacked_linear.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::int_tensor;
using testing::random_tensor;

// Three adapters of ranks 5, 8 and 0 over products [in] -> [out].
struct Adapters {
  static constexpr int64_t kRank = 8;
  Adapters(int64_t in_size, int64_t out_size)
      : in(in_size),
        out(out_size),
        a(random_tensor({3, kRank * in}, 1, DType::kF32)),
        b(random_tensor({3, kRank * out}, 2, DType::kF32)),
        ranks(int_tensor({5, 8, 0})),
        scales(random_tensor({3}, 3, DType::kF32)) {
    for (int64_t j = 5; j < kRank; ++j)  // what is beyond a rank must not be seen
      for (int64_t k = 0; k < in; ++k) a.data<float>()[j * in + k] = NAN;
  }

  // y + the additions; the rows lie in something wider.
  Tensor run(const Tensor& x, const std::vector<int32_t>& slots, const Tensor& y, Isa isa,
             int threads) const {
    const int64_t rows = x.dim(0);
    const Tensor wide = make_tensor(testing::allocator(), {rows, out + 7}, DType::kF32).columns(3, out);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < out; ++k) wide.data<float>()[r * (out + 7) + k] = y.data<float>()[r * out + k];
    const Team team(threads);
    EagerRecorder recorder(testing::allocator(), team, isa);
    Context c{recorder};
    lora(c, x, int_tensor(slots), a, b, ranks, scales, wide);
    const Tensor result = make_tensor(testing::allocator(), {rows, out}, DType::kF32);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < out; ++k)
        result.data<float>()[r * out + k] = wide.data<float>()[r * (out + 7) + k];
    return result;
  }

  double exact(const Tensor& x, int64_t row, int32_t slot, const Tensor& y, int64_t column) const {
    double sum = get(y, row * out + column);
    const int64_t rank = slot < 0 ? 0 : ranks.data<int32_t>()[slot];
    for (int64_t j = 0; j < rank; ++j) {
      double h = 0;
      for (int64_t k = 0; k < in; ++k) h += get(x, row * in + k) * get(a, (slot * kRank + j) * in + k);
      sum += get(scales, slot) * h * get(b, (slot * kRank + j) * out + column);
    }
    return sum;
  }

  int64_t in, out;
  Tensor a, b, ranks, scales;
};

Tensor row_of(const Tensor& x, int64_t row) {
  const Tensor one = make_tensor(testing::allocator(), {1, x.dim(1)}, DType::kF32);
  std::copy_n(x.data<float>() + row * x.dim(1), x.dim(1), one.data<float>());
  return one;
}

FLAGSCALE_EVERY_CPU_SET(LoraSets);
TEST_P(LoraSets, AddsWhatEachRowsAdapterSaysTheSameAloneAndInABatch) {
  for (const auto& [in, out] : {std::pair<int64_t, int64_t>{64, 96}, {37, 300}, {1, 1}, {576, 513}}) {
    SCOPED_TRACE(std::to_string(in) + " -> " + std::to_string(out));
    const Adapters adapters(in, out);
    const std::vector<int32_t> slots{1, 1, 1, 1, 1, 1, 0, -1, 2, 0, 0, 1, -1, -1, 0, 0, 0, 0, 0, 1, 2};
    const auto rows = static_cast<int64_t>(slots.size());
    const Tensor x = random_tensor({rows, in}, 4, DType::kF32),
                 y = random_tensor({rows, out}, 5, DType::kF32);
    const Tensor all = adapters.run(x, slots, y, GetParam(), 2);
    for (int64_t row = 0; row < rows; ++row) {
      const int32_t slot = slots[static_cast<size_t>(row)];
      const Tensor alone = adapters.run(row_of(x, row), {slot}, row_of(y, row), GetParam(), 1);
      for (int64_t k = 0; k < out; ++k) {
        ASSERT_EQ(get(all, row * out + k), get(alone, k)) << "row " << row;
        ASSERT_NEAR(get(all, row * out + k), adapters.exact(x, row, slot, y, k),
                    2e-5 * std::sqrt(static_cast<double>(in)) * 10)
            << "row " << row;
        if (slot < 0 || slot == 2) {
          ASSERT_EQ(get(all, row * out + k), get(y, row * out + k));
        }
      }
    }
  }
}

TEST_P(LoraSets, AZeroBChangesNoBit) {
  const Adapters adapters(40, 70);
  std::fill_n(adapters.b.data<float>(), adapters.b.shape().numel(), 0.f);
  const Tensor x = random_tensor({9, 40}, 4, DType::kF32), y = random_tensor({9, 70}, 5, DType::kF32);
  const Tensor got = adapters.run(x, {0, 0, 0, 1, 1, 1, 1, 1, -1}, y, GetParam(), 2);
  for (int64_t i = 0; i < 9 * 70; ++i) ASSERT_EQ(get(got, i), get(y, i));
}

TEST(Lora, ShapesThatDoNotFitAreNamed) {
  const Adapters adapters(8, 6);
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder};
  const Tensor x = random_tensor({2, 8}, 1, DType::kF32), y = random_tensor({2, 6}, 2, DType::kF32);
  EXPECT_NO_THROW(lora(c, x, int_tensor({0, 1}), adapters.a, adapters.b, adapters.ranks, adapters.scales, y));
  EXPECT_THROW(lora(c, x, int_tensor({0}), adapters.a, adapters.b, adapters.ranks, adapters.scales, y),
               Error);
  EXPECT_THROW(lora(c, y, int_tensor({0, 1}), adapters.a, adapters.b, adapters.ranks, adapters.scales, y),
               Error);
}

// Over columns of a product, as an adapter of one projection of a fused weight.
testing::Function trained(const LoraTraining& training) {
  return [training](Context& c, const std::vector<Tensor>& in) {
    const Tensor y = linear(c, in[0], in[1], Tensor());
    train_lora(c, in[0], in[2], {{in[3], 2}}, training, y);
    return y;
  };
}

std::vector<Tensor> trained_inputs() {  // x, W, A, B
  return {random_tensor({9, 21}, 1), random_tensor({17, 21}, 2), random_tensor({3, 21}, 3),
          random_tensor({13, 3}, 4)};
}

TEST(TrainLora, Gradients) {
  const DropoutRows rows{5};
  testing::expect_gradients(trained({1.5f}), trained_inputs());
  testing::expect_gradients(trained({1.5f, 0.4f, false, 1, 2, &rows}), trained_inputs());
  testing::expect_gradients(trained({1.5f, 0.4f, true, 1, 2, &rows}), trained_inputs());
}

FLAGSCALE_EVERY_SET(TrainLoraSets);
TEST_P(TrainLoraSets, AgreesWithScalarInDouble) {
  const DropoutRows rows{5};
  for (const LoraTraining& training :
       {LoraTraining{0.5f}, LoraTraining{0.5f, 0.4f, false, 1, 2, &rows}, {0.5f, 0.4f, true, 1, 2, &rows}})
    testing::expect_agrees(GetParam(), trained(training), trained_inputs());
}

// Two projections of one product, whose A lie together: each alone gives the same.
TEST(TrainLora, TargetsOfOneProductShareItsInput) {
  const testing::Function both = [](Context& c, const std::vector<Tensor>& in) {
    const Tensor y = linear(c, in[0], in[1], Tensor());
    train_lora(c, in[0], in[2], {{in[3], 2}, {in[4], 9}}, {1.5f}, y);
    return y;
  };
  const std::vector<Tensor> inputs{random_tensor({9, 21}, 1), random_tensor({17, 21}, 2),
                                   random_tensor({6, 21}, 3), random_tensor({7, 3}, 4),
                                   random_tensor({8, 3}, 5)};
  testing::expect_gradients(both, inputs);
  const testing::Function apart = [](Context& c, const std::vector<Tensor>& in) {
    const Tensor y = linear(c, in[0], in[1], Tensor());
    train_lora(c, in[0], in[2].rows(0, 3), {{in[3], 2}}, {1.5f}, y);
    train_lora(c, in[0], in[2].rows(3, 3), {{in[4], 9}}, {1.5f}, y);
    return y;
  };
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder};
  EXPECT_LT(testing::relative_error(both(c, inputs), apart(c, inputs)), 1e-14);
  EXPECT_THROW(train_lora(c, inputs[0], inputs[2], {{inputs[3], 2}, {inputs[4], 9}}, {1.5f, 0.1f},
                          random_tensor({9, 17}, 6)),
               Error);
}

// Experts of 5, 0 and 9 rows; over columns of their product.
testing::Function trained_experts() {
  return [](Context& c, const std::vector<Tensor>& in) {
    const Tensor counts = int_tensor({5, 0, 9});
    const Tensor y = grouped_linear(c, in[0], counts, in[1]);
    train_expert_lora(c, in[0], counts, {}, in[2], {{in[3], 2}, {in[4], 9}}, {1.5f}, y);
    return y;
  };
}

std::vector<Tensor> expert_inputs() {  // x, W, A of both, B, B
  return {random_tensor({7, 2, 21}, 1), random_tensor({3 * 17, 21}, 2), random_tensor({3 * 8, 21}, 3),
          random_tensor({3 * 7, 4}, 4), random_tensor({3 * 8, 4}, 5)};
}

TEST(TrainLora, GradientsOfExperts) { testing::expect_gradients(trained_experts(), expert_inputs()); }

// The same with one target and dropout, of x or of what is added.
testing::Function dropped_experts(bool after) {
  static const DropoutRows kRows{5};
  return [after](Context& c, const std::vector<Tensor>& in) {
    const Tensor counts = int_tensor({5, 0, 9}),
                 choices = int_tensor({3, 0, 8, 13, 1, 2, 4, 5, 6, 7, 9, 10, 11, 12}).reshape({7, 2});
    const Tensor y = grouped_linear(c, in[0], counts, in[1]);
    train_expert_lora(c, in[0], counts, choices, in[2], {{in[3], 2}},
                      {1.5f, 0.4f, after, 11, 12, &kRows, false}, y);
    return y;
  };
}

std::vector<Tensor> one_target() {
  return {random_tensor({7, 2, 21}, 1), random_tensor({3 * 17, 21}, 2), random_tensor({3 * 4, 21}, 3),
          random_tensor({3 * 7, 4}, 4)};
}

TEST(TrainLora, GradientsOfExpertsWithDropout) {
  for (const bool after : {false, true}) testing::expect_gradients(dropped_experts(after), one_target());
}

TEST_P(LoraSets, ExpertsWithDropoutAgreeWithScalarInDouble) {
  for (const bool after : {false, true})
    testing::expect_agrees(GetParam(), dropped_experts(after), one_target());
}

TEST_P(LoraSets, ExpertsTrainedAgreeWithScalarInDouble) {
  testing::expect_agrees(GetParam(), trained_experts(), expert_inputs());
}

// Each row as a product of one matrix of its slot and expert gives it, to the bit.
TEST_P(LoraSets, RowsOfExpertsAreThoseOfTheirMatrices) {
  constexpr int64_t kExperts = 3, kIn = 40, kOut = 70, kRank = 4, kTokens = 5, kTopK = 2;
  const Tensor a = random_tensor({2, kExperts * kRank * kIn}, 1, DType::kF32),
               b = random_tensor({2, kExperts * kRank * kOut}, 2, DType::kF32);
  const Tensor ranks = int_tensor({3, 4}), scales = random_tensor({2}, 3, DType::kF32);
  const Tensor x = random_tensor({kTokens, kTopK, kIn}, 4, DType::kF32),
               y = random_tensor({kTokens, kTopK, kOut}, 5, DType::kF32),
               before = testing::converted(y, DType::kF32);
  const std::vector<int32_t> choices{2, 0, 1, 2, 0, 1, 1, 0, 2, 0}, slots{0, 1, -1, 1, 0};
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  Context c{recorder};
  const ExpertOrder order = sort_by_expert(c, int_tensor(choices).reshape({kTokens, kTopK}), kExperts);
  const Tensor which = expert_slots(c, int_tensor(slots), order);
  lora(c, x, which, a, b, ranks, scales, y, kExperts);
  for (int64_t choice = 0; choice < kTokens * kTopK; ++choice) {
    const int32_t row = order.rows.data<int32_t>()[choice], slot = slots[static_cast<size_t>(choice / kTopK)];
    const int32_t expert = choices[static_cast<size_t>(choice)];
    ASSERT_EQ(which.data<int32_t>()[row], slot < 0 ? -1 : slot * kExperts + expert);
    const Tensor one = row_of(before.reshape({kTokens * kTopK, kOut}), row);
    lora(c, row_of(x.reshape({kTokens * kTopK, kIn}), row), int_tensor({slot}),
         a.columns(expert * kRank * kIn, kRank * kIn), b.columns(expert * kRank * kOut, kRank * kOut), ranks,
         scales, one);
    for (int64_t k = 0; k < kOut; ++k) ASSERT_EQ(get(y, row * kOut + k), get(one, k)) << "row " << row;
  }
}

TEST(TrainLora, OverAFrozenProductOfAnInputWithoutGradient) {
  const std::vector<Tensor> in = trained_inputs();
  const testing::Result whole = testing::run(trained({1.5f}), in, Isa::kScalar);
  const testing::Function frozen = [&](Context& c, const std::vector<Tensor>& adapter) {
    const Tensor y = linear(c, in[0], in[1], Tensor());
    train_lora(c, in[0], adapter[0], {{adapter[1], 2}}, {1.5f}, y);
    return y;
  };
  const testing::Result alone = testing::run(frozen, {in[2], in[3]}, Isa::kScalar);
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(testing::relative_error(alone.grads[i], whole.grads[i + 2]), 0);
}

// Two additions, with columns between them that have none, and where a tile has both.
struct OneProduct {
  int64_t rows, in, out, rank, first, second;  // of the targets' columns
  int64_t width = 7;                           // of the first target
  Tensor bias() const { return random_tensor({out}, 6); }
  std::vector<Tensor> inputs() const {  // x, W, A, B, B
    return {random_tensor({rows, in}, 1), random_tensor({out, in}, 2), random_tensor({2 * rank, in}, 3),
            random_tensor({width, rank}, 4), random_tensor({out - second, rank}, 5)};
  }
  testing::Function adapted() const {
    return [this](Context& c, const std::vector<Tensor>& v) {
      return adapted_linear(c, v[0], v[1], {}, testing::converted(bias(), v[0].dtype()), v[2],
                            {{v[3], first}, {v[4], second}}, {1.5f});
    };
  }
  testing::Function apart() const {
    return [this](Context& c, const std::vector<Tensor>& v) {
      const Tensor y = linear(c, v[0], v[1], bias());
      train_lora(c, v[0], v[2], {{v[3], first}, {v[4], second}}, {1.5f}, y);
      return y;
    };
  }
};

TEST(AdaptedLinear, Gradients) {
  testing::expect_gradients(OneProduct{9, 21, 29, 3, 2, 9}.adapted(),
                            OneProduct{9, 21, 29, 3, 2, 9}.inputs());
}

// Sizes on both sides of the tiles' and blocks', odd ranks among pairs.
TEST_P(TrainLoraSets, OneProductIsBaseAndAdapterApart) {
  if (GetParam() == Isa::kCuda) GTEST_SKIP() << "a GPU multiplies base and adapter apart";
  for (const OneProduct& p : {OneProduct{9, 21, 29, 3, 2, 9}, OneProduct{45, 70, 131, 8, 0, 64, 64},
                              OneProduct{33, 1600, 97, 13, 0, 7}, OneProduct{1, 40, 70, 1, 30, 50},
                              OneProduct{70, 24, 1700, 20, 5, 100, 90}}) {
    testing::expect_agrees(GetParam(), p.adapted(), p.inputs());
    const testing::Result one = testing::run(p.adapted(), p.inputs(), Isa::kScalar),
                          two = testing::run(p.apart(), p.inputs(), Isa::kScalar);
    EXPECT_LT(testing::relative_error(one.output, two.output), 1e-12);
    for (size_t i = 0; i < 5; ++i) EXPECT_LT(testing::relative_error(one.grads[i], two.grads[i]), 1e-12) << i;
  }
}

// In pieces of a packed base, which an addition's columns straddle.
TEST_P(TrainLoraSets, OneProductOverAPackedBase) {
  if (GetParam() == Isa::kCuda) GTEST_SKIP() << "a GPU multiplies base and adapter apart";
  const OneProduct p{17, 96, 1000, 5, 3, 760, 300};
  const Packed base(p.out, p.in, Packing::kInt8);
  const Tensor bias = random_tensor({p.out}, 8);
  std::vector<Tensor> in = p.inputs();
  const auto run = [&](bool one, DType dtype, Isa isa) {
    std::vector<Tensor> inputs;
    for (const size_t i : {0, 2, 3, 4}) inputs.push_back(testing::converted(in[i], dtype));
    const Tensor typed = testing::converted(bias, dtype);
    return testing::run(
        [&](Context& c, const std::vector<Tensor>& v) {
          const std::vector<LoraTarget> targets{{v[2], p.first}, {v[3], p.second}};
          if (one) return adapted_linear(c, v[0], {}, base.packed, typed, v[1], targets, {1.5f});
          const Tensor y = unpacked_linear(c, v[0], base.packed, typed, dtype);
          train_lora(c, v[0], v[1], targets, {1.5f}, y);
          return y;
        },
        inputs, isa);
  };
  const testing::Result want = run(false, DType::kF64, Isa::kScalar);
  for (const auto& [dtype, tolerance] : {std::pair{DType::kF32, 1e-5}, {DType::kBF16, 3e-2}}) {
    const testing::Result got = run(true, dtype, GetParam());
    EXPECT_LT(testing::relative_error(got.output, want.output), tolerance);
    for (size_t i = 0; i < 4; ++i) EXPECT_LT(testing::relative_error(got.grads[i], want.grads[i]), tolerance);
  }
}

TEST(AdaptedLinear, ShapesThatDoNotFitAreNamed) {
  const OneProduct p{9, 21, 29, 3, 2, 9};
  std::vector<Tensor> in = p.inputs();
  in[4] = random_tensor({21, 3}, 5);
  EXPECT_THROW(testing::run(p.adapted(), in, Isa::kScalar), Error);  // beyond the product's columns
  in = p.inputs();
  in[0] = random_tensor({9, 20}, 1);
  EXPECT_THROW(testing::run(p.adapted(), in, Isa::kScalar), Error);
  const OneProduct overlapping{9, 21, 29, 3, 2, 8};
  EXPECT_THROW(testing::run(overlapping.adapted(), overlapping.inputs(), Isa::kScalar), Error);
}

}  // namespace
}  // namespace flagscale::op
