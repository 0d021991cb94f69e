#include "op/packed_linear/unpacked_linear.h"

#include "base/error.h"
#include "op/cross_entropy/cross_entropy.h"
#include "op/grouped_matmul/grouped_matmul.h"
#include "op/matmul/matmul.h"
#include "op/packed_linear/packed_weight_test_support.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

class Unpacked : public ::testing::TestWithParam<Packing> {};

// A piece that begins and ends inside the weight, and its last one.
TEST_P(Unpacked, AreTheFormatsValuesToTheBit) {
  const int64_t in = width_for(GetParam()), out = 75;
  const Packed p(out, in, GetParam());
  const Team team(2);
  for (const Isa isa : runnable_isas())
    for (const auto& [first, rows] : {std::pair<int64_t, int64_t>{0, 64}, {32, 43}}) {
      EagerRecorder recorder(testing::allocator(), team, isa);
      const Tensor piece = recorder.empty({in, 80}, DType::kF32).columns(3, rows);
      recorder.launch(kUnpack, {p.packed.segments[0].data, piece, GetParam(), first});
      for (int64_t k = 0; k < in; ++k)
        for (int64_t j = 0; j < rows; ++j)
          ASSERT_EQ(piece.data<float>()[k * 80 + j], p.weight.data<float>()[(first + j) * in + k])
              << name(isa) << " row " << first + j << " element " << k;
    }
}

INSTANTIATE_TEST_SUITE_P(All, Unpacked, ::testing::ValuesIn(kAll),
                         [](const auto& test) { return std::string(op::info(test.param).name); });

// Two formats, more rows than a piece has, and a part of one.
struct Mixed {
  Packed first{800, 96, Packing::kQ4_1}, second{70, 96, Packing::kInt8, Compute::kExact, 1};
  PackedWeight packed;
  Tensor weight = make_tensor(testing::allocator(), {870, 96}, DType::kF64), bias = random_tensor({870}, 9);
  Mixed() {
    packed = first.packed;
    packed.segments.push_back(second.packed.segments[0]);
    for (int64_t i = 0; i < 870 * 96; ++i)
      testing::set(weight, i,
                   i < 800 * 96 ? testing::get(first.weight, i) : testing::get(second.weight, i - 800 * 96));
  }
};

TEST(UnpackedLinear, ValuesAndGradientAreTheDenseProductsInEverySet) {
  const Mixed m;
  const Tensor x = random_tensor({21, 96}, 3);
  const auto dense = [&](Context& c, const std::vector<Tensor>& in) {
    return linear(c, in[0], m.weight, m.bias);
  };
  const testing::Result want = testing::run(dense, {x}, Isa::kScalar);
  for (const Isa isa : runnable_isas())
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
      if (dtype == DType::kF64 && isa != Isa::kScalar) continue;
      SCOPED_TRACE(std::string(name(isa)) + " " + std::string(name(dtype)));
      const Tensor bias = testing::converted(m.bias, dtype);
      const auto packed = [&](Context& c, const std::vector<Tensor>& in) {
        return unpacked_linear(c, in[0], m.packed, bias, dtype);
      };
      const testing::Result got = testing::run(packed, {testing::converted(x, dtype)}, isa);
      const double tolerance = dtype == DType::kF64 ? 1e-12 : dtype == DType::kF32 ? 2e-6 : 2e-2;
      EXPECT_LT(testing::relative_error(got.output, want.output), tolerance);
      EXPECT_LT(testing::relative_error(got.grads[0], want.grads[0]), tolerance);
    }
}

// Experts with 5, 0 and 9 rows, more outputs than a piece has.
TEST(UnpackedLinear, ExpertsAreTheDenseExpertsInEverySet) {
  constexpr int64_t kExperts = 3, kIn = 64, kOut = 790;
  const Tensor data = make_tensor(testing::allocator(),
                                  {kExperts * panels_of(kOut), panel_bytes(Packing::kInt8, kIn)}, DType::kU8);
  const Tensor weight = make_tensor(testing::allocator(), {kExperts * kOut, kIn}, DType::kF64);
  for (int64_t e = 0; e < kExperts; ++e) {
    const Packed one(kOut, kIn, Packing::kInt8, Compute::kExact, static_cast<unsigned>(e));
    const Tensor& panels = one.packed.segments[0].data;
    std::copy_n(panels.data<uint8_t>(), panels.bytes(),
                data.data<uint8_t>() + static_cast<size_t>(e) * panels.bytes());
    for (int64_t i = 0; i < kOut * kIn; ++i)
      testing::set(weight, e * kOut * kIn + i, testing::get(one.weight, i));
  }
  PackedWeight packed{{{Packing::kInt8, kOut, data}}, kIn, Compute::kExact, kExperts};
  const Tensor counts = testing::int_tensor({5, 0, 9}), x = random_tensor({7, 2, kIn}, 3);
  const auto dense = [&](Context& c, const std::vector<Tensor>& in) {
    return grouped_linear(c, in[0], counts, weight);
  };
  const testing::Result want = testing::run(dense, {x}, Isa::kScalar);
  const auto unpacked = [&](Context& c, const std::vector<Tensor>& in) {
    return unpacked_grouped(c, in[0], counts, packed);
  };
  for (const Isa isa : runnable_isas())
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const testing::Result got = testing::run(unpacked, {testing::converted(x, dtype)}, isa);
      const double tolerance = dtype == DType::kF32 ? 2e-6 : 2e-2;
      EXPECT_LT(testing::relative_error(got.output, want.output), tolerance);
      EXPECT_LT(testing::relative_error(got.grads[0], want.grads[0]), tolerance);
    }
}

// bf16 rows whose logits are fp32, as a router's.
TEST(UnpackedLinear, ResultsOfAnotherTypeHaveGradientsToo) {
  const Mixed m;
  const Tensor x = random_tensor({5, 96}, 3, DType::kBF16);
  const auto wide = [&](Context& c, const std::vector<Tensor>& in) {
    return unpacked_linear(c, in[0], m.packed, {}, DType::kF32);
  };
  const testing::Result got = testing::run(wide, {x}, Isa::kScalar);
  EXPECT_EQ(got.output.dtype(), DType::kF32);
  EXPECT_EQ(got.grads[0].dtype(), DType::kBF16);
}

TEST(UnpackedLinear, AHeadThatStaysPackedGivesTheDenseHeadsLoss) {
  const Mixed m;
  const float scale = 0.5f;
  const Tensor dense = testing::converted(m.weight, DType::kF32),
               hidden = random_tensor({9, 96}, 4, DType::kF32);
  const Tensor mask = make_tensor(testing::allocator(), {9}, DType::kF32);
  for (int64_t i = 0; i < 9; ++i) mask.data<float>()[i] = i % 2 ? 1.f : 0.f;
  LearntTokens learnt(make_tensor(testing::allocator(), {9}, DType::kI32), 870);
  learnt.choose(mask.data<float>());
  const Tensor labels = testing::int_tensor({1, 2, 3, 869, 5, 6, 7, 800, 9});
  const auto run = [&](bool packed, const LearntTokens* some) {
    const Team team(2);
    EagerRecorder recorder(testing::allocator(), team, machine_isa());
    Tape tape = make_tape();
    tape.require(hidden);
    Context c{recorder, &tape};
    const Tensor loss = packed ? head_loss(c, hidden, m.packed, labels, mask, &scale, some)
                               : head_loss(c, hidden, dense, labels, mask, &scale, some);
    return std::pair{loss, tape.grad(hidden)};
  };
  const auto want = run(false, nullptr);
  for (const LearntTokens* some :
       {static_cast<const LearntTokens*>(nullptr), static_cast<const LearntTokens*>(&learnt)}) {
    const auto got = run(true, some);
    EXPECT_LT(testing::relative_error(got.first, want.first), 1e-6);
    EXPECT_LT(testing::relative_error(got.second, want.second), 1e-5);
  }
}

TEST(UnpackedLinear, ShapesThatDoNotFitAreNamed) {
  const Mixed m;
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder, nullptr};
  EXPECT_THROW(unpacked_linear(c, random_tensor({2, 95}, 1), m.packed, {}, DType::kF64), Error);
  EXPECT_THROW(unpacked_linear(c, random_tensor({2, 96}, 1), m.packed, random_tensor({3}, 1), DType::kF64),
               Error);
}

}  // namespace
}  // namespace flagscale::op
