#include "op/lora/lora.h"

#include "base/error.h"
#include "op/elementwise/elementwise.h"
#include "op/expert_rows/expert_rows.h"
#include "op/grouped_matmul/grouped_matmul.h"
#include "op/lora/adapted_linear.h"
#include "op/matmul/matmul.h"
#include "op/op_testing.h"
#include "op/packed_linear/packed_weight_test_support.h"
#include "op/packed_linear/unpacked_linear.h"
#include "op/rms_norm/rms_norm.h"
#include "op/swiglu/swiglu.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::int_tensor;
using testing::random_tensor;
using testing::set;

void add(Context& c, const Tensor& x, const Tensor& slots, const std::vector<LoraSlots>& parts,
         const Tensor& y, int64_t experts = 1) {
  lora_up(c, x, lora_down(c, x, slots, parts, experts), slots, parts, y, experts);
}

// Three adapters of ranks `rank` - 3, `rank` and 0 over products [in] -> [out].
struct Adapters {
  Adapters(int64_t in_size, int64_t out_size, DType dtype = DType::kF32, int64_t most = 8)
      : in(in_size),
        out(out_size),
        rank(most),
        type(dtype),
        a(random_tensor({3, rank * in}, 1, type)),
        b(random_tensor({3, rank * out}, 2, type)),
        ranks(int_tensor({static_cast<int32_t>(rank - 3), static_cast<int32_t>(rank), 0})),
        scales(random_tensor({3}, 3, DType::kF32)) {
    for (int64_t j = rank - 3; j < rank; ++j) {  // what is beyond a rank must not be seen
      for (int64_t k = 0; k < in; ++k) set(a, j * in + k, NAN);
      for (int64_t k = 0; k < out; ++k) set(b, j * out + k, NAN);
    }
  }

  // y + the additions; the rows lie in something wider.
  Tensor run(const Tensor& x, const std::vector<int32_t>& slots, const Tensor& y, Isa isa,
             int threads) const {
    const int64_t rows = x.dim(0), pitch = out + 16;
    const Tensor all = make_tensor(testing::allocator(), {rows, pitch}, type);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < out; ++k) set(all, r * pitch + 8 + k, get(y, r * out + k));
    const Team team(threads);
    EagerRecorder recorder(testing::allocator(), team, isa);
    Context c{recorder};
    add(c, x, int_tensor(slots), {{a, b, ranks, scales, 0, out}}, all.columns(8, out));
    Tensor result = make_tensor(testing::allocator(), {rows, out}, type);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < out; ++k) set(result, r * out + k, get(all, r * pitch + 8 + k));
    return result;
  }

  double exact(const Tensor& x, int64_t row, int32_t slot, const Tensor& y, int64_t column) const {
    double sum = get(y, row * out + column);
    for (int64_t j = 0; slot >= 0 && j < ranks.data<int32_t>()[slot]; ++j) {
      double h = 0;
      for (int64_t k = 0; k < in; ++k) h += get(x, row * in + k) * get(a, (slot * rank + j) * in + k);
      sum += get(scales, slot) * h * get(b, (slot * rank + j) * out + column);
    }
    return sum;
  }
  // Of a sum of rank * in products of normal numbers.
  double tolerance() const {
    const double size = std::sqrt(static_cast<double>(in * rank));
    return size * (type == DType::kBF16 ? 0.04 : 1e-4);
  }

  int64_t in, out, rank;
  DType type;
  Tensor a, b, ranks, scales;
};

Tensor row_of(const Tensor& x, int64_t row) {
  Tensor one = make_tensor(testing::allocator(), {1, x.dim(1)}, x.dtype());
  for (int64_t k = 0; k < x.dim(1); ++k) set(one, k, get(x, row * x.dim(1) + k));
  return one;
}

// A processor serves adapters in fp32.
std::vector<DType> types_of(Isa isa) {
  return isa == Isa::kCuda ? std::vector{DType::kF32, DType::kBF16} : std::vector{DType::kF32};
}

// Every step'th row.
void expect_rows_alone(const Adapters& adapters, const std::vector<int32_t>& slots, Isa isa, int64_t step) {
  const auto rows = static_cast<int64_t>(slots.size());
  const Tensor x = random_tensor({rows, adapters.in}, 4, adapters.type),
               y = random_tensor({rows, adapters.out}, 5, adapters.type);
  const Tensor all = adapters.run(x, slots, y, isa, 2);
  for (int64_t row = 0; row < rows; row += step) {
    const int32_t slot = slots[static_cast<size_t>(row)];
    const Tensor alone = adapters.run(row_of(x, row), {slot}, row_of(y, row), isa, 1);
    for (int64_t k = 0; k < adapters.out; ++k) {
      const int64_t at = row * adapters.out + k;
      ASSERT_EQ(get(all, at), get(alone, k)) << "row " << row;
      if (slot < 0 || slot == 2) {
        ASSERT_EQ(get(all, at), get(y, at));
      } else if (k % 7 == 0) {
        ASSERT_NEAR(get(all, at), adapters.exact(x, row, slot, y, k), adapters.tolerance()) << "row " << row;
      }
    }
  }
}

FLAGSCALE_EVERY_SET(ServedLoraSets);
FLAGSCALE_EVERY_CPU_SET(LoraSets);
TEST_P(ServedLoraSets, AddsWhatEachRowsAdapterSaysTheSameAloneAndInABatch) {
  for (const DType type : types_of(GetParam()))
    for (const auto& [in, out] : {std::pair<int64_t, int64_t>{64, 96}, {37, 300}, {1, 1}, {576, 513}}) {
      SCOPED_TRACE(std::to_string(in) + " -> " + std::to_string(out) + " " + std::string(name(type)));
      expect_rows_alone(Adapters(in, out, type),
                        {1, 1, 1, 1, 1, 1, 0, -1, 2, 0, 0, 1, -1, -1, 0, 0, 0, 0, 0, 1, 2}, GetParam(), 1);
    }
}

// Sums of several groups, ranks of several passes, tiles of one adapter and of many, rows above which a block
// adds all groups itself.
TEST_P(ServedLoraSets, ManyRowsAndRanksAreTheSameAlone) {
  if (GetParam() != Isa::kCuda) GTEST_SKIP() << "a processor has one way for all sizes";
  std::vector<int32_t> slots(2100, 1);
  for (size_t i = 0; i < 100; ++i) slots[i * 3] = static_cast<int32_t>(i % 4) - 1;
  for (const DType type : types_of(GetParam()))
    expect_rows_alone(Adapters(2184, 264, type), slots, GetParam(), 21);
  slots.resize(70);
  expect_rows_alone(Adapters(1096, 136, DType::kBF16, 40), slots, GetParam(), 1);
  expect_rows_alone(Adapters(4096, 1032, DType::kBF16, 16), slots, GetParam(), 1);
}

TEST_P(ServedLoraSets, PartsOfAProductAreEachAlone) {
  for (const DType type : types_of(GetParam())) {
    const Adapters one(48, 72, type), two(48, 40, type, 20), three(48, 24, type);
    const std::vector<int32_t> slots{0, 1, -1, 2, 1};
    const Tensor x = random_tensor({5, 48}, 4, type), y = random_tensor({5, 136}, 5, type);
    std::vector<Tensor> alone;
    std::vector<LoraSlots> parts;
    int64_t first = 0;
    for (const Adapters* adapters : {&one, &two, &three}) {
      Tensor part = make_tensor(testing::allocator(), {5, adapters->out}, type);
      for (int64_t i = 0; i < 5 * adapters->out; ++i)
        set(part, i, get(y, i / adapters->out * 136 + first + i % adapters->out));
      alone.push_back(adapters->run(x, slots, part, GetParam(), 1));
      parts.push_back({adapters->a, adapters->b, adapters->ranks, adapters->scales, first, adapters->out});
      first += adapters->out;
    }
    const Team team(2);
    EagerRecorder recorder(testing::allocator(), team, GetParam());
    Context c{recorder};
    add(c, x, int_tensor(slots), parts, y);
    first = 0;
    for (const Tensor& part : alone) {
      const int64_t out = part.dim(1);
      for (int64_t i = 0; i < 5 * out; ++i) ASSERT_EQ(get(y, i / out * 136 + first + i % out), get(part, i));
      first += out;
    }
  }
}

TEST_P(ServedLoraSets, AZeroBChangesNoBit) {
  for (const DType type : types_of(GetParam())) {
    const Adapters adapters(40, 72, type);
    for (int64_t i = 0; i < adapters.b.shape().numel(); ++i) set(adapters.b, i, 0);
    const Tensor x = random_tensor({9, 40}, 4, type), y = random_tensor({9, 72}, 5, type);
    const Tensor got = adapters.run(x, {0, 0, 0, 1, 1, 1, 1, 1, -1}, y, GetParam(), 2);
    for (int64_t i = 0; i < 9 * 72; ++i) ASSERT_EQ(get(got, i), get(y, i));
  }
}

TEST(Lora, ShapesThatDoNotFitAreNamed) {
  const Adapters adapters(8, 6);
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder};
  const std::vector<LoraSlots> parts{{adapters.a, adapters.b, adapters.ranks, adapters.scales, 0, 6}};
  const auto run = [&](const Tensor& x, const std::vector<int32_t>& slots, const Tensor& y) {
    add(c, x, int_tensor(slots), parts, y);
  };
  const Tensor x = random_tensor({2, 8}, 1, DType::kF32), y = random_tensor({2, 6}, 2, DType::kF32);
  EXPECT_NO_THROW(run(x, {0, 1}, y));
  EXPECT_THROW(run(x, {0}, y), Error);
  EXPECT_THROW(run(y, {0, 1}, y), Error);
  EXPECT_THROW(run(x, {0, 1}, y.columns(0, 5)), Error);
  EXPECT_THROW(run(testing::converted(x, DType::kBF16), {0, 1}, y), Error);
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
TEST_P(ServedLoraSets, RowsOfExpertsAreThoseOfTheirMatrices) {
  constexpr int64_t kExperts = 3, kIn = 40, kOut = 72, kRank = 4, kTokens = 25, kTopK = 2;
  for (const DType type : types_of(GetParam())) {
    const Tensor a = random_tensor({2, kExperts * kRank * kIn}, 1, type),
                 b = random_tensor({2, kExperts * kRank * kOut}, 2, type);
    const Tensor ranks = int_tensor({3, 4}), scales = random_tensor({2}, 3, DType::kF32);
    const Tensor x = random_tensor({kTokens, kTopK, kIn}, 4, type),
                 y = random_tensor({kTokens, kTopK, kOut}, 5, type), before = testing::converted(y, type);
    std::vector<int32_t> choices, slots;
    for (int32_t token = 0; token < kTokens; ++token) {
      choices.insert(choices.end(), {token % 3, (token + 1 + token / 3 % 2) % 3});
      slots.push_back((token * token + 1) % 3 - 1);
    }
    const Team team(2);
    EagerRecorder recorder(testing::allocator(), team, GetParam());
    Context c{recorder};
    const ExpertOrder order = sort_by_expert(c, int_tensor(choices).reshape({kTokens, kTopK}), kExperts);
    const Tensor which = expert_slots(c, int_tensor(slots), order);
    add(c, x, which, {{a, b, ranks, scales, 0, kOut}}, y, kExperts);
    for (int64_t choice = 0; choice < kTokens * kTopK; ++choice) {
      const int32_t row = order.rows.data<int32_t>()[choice],
                    slot = slots[static_cast<size_t>(choice / kTopK)];
      const int32_t expert = choices[static_cast<size_t>(choice)];
      ASSERT_EQ(which.data<int32_t>()[row], slot < 0 ? -1 : slot * kExperts + expert);
      const Tensor one = row_of(before.reshape({kTokens * kTopK, kOut}), row);
      add(c, row_of(x.reshape({kTokens * kTopK, kIn}), row), int_tensor({slot}),
          {{a.columns(expert * kRank * kIn, kRank * kIn), b.columns(expert * kRank * kOut, kRank * kOut),
            ranks, scales, 0, kOut}},
          one);
      for (int64_t k = 0; k < kOut; ++k) ASSERT_EQ(get(y, row * kOut + k), get(one, k)) << "row " << row;
    }
  }
}

TEST_P(ServedLoraSets, ExpertsOfAStepWithoutAdaptersAddNothing) {
  constexpr int64_t kExperts = 2, kIn = 24, kOut = 40, kRank = 4, kTokens = 3;
  const Tensor a = random_tensor({1, kExperts * kRank * kIn}, 1, DType::kF32),
               b = random_tensor({1, kExperts * kRank * kOut}, 2, DType::kF32);
  const Tensor ranks = int_tensor({4}), scales = random_tensor({1}, 3, DType::kF32);
  const Tensor x = random_tensor({kTokens, 1, kIn}, 4, DType::kF32);
  for (const int64_t adapted : {int64_t{0}, kTokens}) {
    const Tensor y = random_tensor({kTokens, 1, kOut}, 5, DType::kF32),
                 before = testing::converted(y, DType::kF32);
    const Team team(1);
    EagerRecorder recorder(testing::allocator(), team, GetParam());
    Context c{recorder};
    const ExpertOrder order = sort_by_expert(c, int_tensor({1, 0, 1}).reshape({kTokens, 1}), kExperts);
    add(c, x, expert_slots(c, int_tensor({0, 0, 0}).with_live(&adapted), order),
        {{a, b, ranks, scales, 0, kOut}}, y, kExperts);
    EXPECT_EQ(testing::relative_error(y, before) == 0, adapted == 0);
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

// An input that its op writes once more in the backward pass, beside one that is kept.
TEST_P(TrainLoraSets, AnInputMadeAgainGivesTheSameBits) {
  const auto adapted = [](bool norm, bool kept) -> testing::Function {
    return [=](Context& c, const std::vector<Tensor>& in) {
      const int64_t n = in[0].dim(1) / 2;
      const Tensor left = in[0].columns(0, n), right = in[0].columns(n, n);
      const AddRmsNorm normed = norm ? add_rms_norm(c, left, right, in[4], 1e-5f) : AddRmsNorm{};
      Tensor x = norm ? normed.y : swiglu(c, left, right);
      const Tensor zero = make_tensor(testing::allocator(), x.shape(), x.dtype());
      for (int64_t i = 0; i < zero.shape().numel(); ++i) set(zero, i, 0);
      if (kept) x = op::add(c, x, zero);
      const Tensor y = linear(c, x, in[1], Tensor());
      train_lora(c, x, in[2], {{in[3], 2}}, {1.5f}, y);
      return y;
    };
  };
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const bool norm : {false, true})
      for (const int64_t n : {24, 96, 320, 1040, 4096}) {
        SCOPED_TRACE(std::to_string(n) + (norm ? " norm" : " swiglu"));
        std::vector<Tensor> in;
        for (const Tensor& t : {random_tensor({33, 2 * n}, 1), random_tensor({32, n}, 2),
                                random_tensor({16, n}, 3), random_tensor({24, 16}, 4), random_tensor({n}, 5)})
          in.push_back(testing::converted(t, dtype));
        if (!norm) in.pop_back();
        const testing::Result again = testing::run(adapted(norm, false), in, GetParam()),
                              kept = testing::run(adapted(norm, true), in, GetParam());
        EXPECT_EQ(testing::relative_error(again.grads[2], kept.grads[2]), 0);
        EXPECT_EQ(testing::relative_error(again.grads[0], kept.grads[0]), 0);
      }
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
