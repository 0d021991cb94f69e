#include "op/attention/attention.h"

#include <algorithm>

#include "op/op_testing.h"
#include "op/rope/rope.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

testing::Function attend(const std::vector<int32_t>& cu_seqlens, AttentionShape shape) {
  return [=](Context& c, const std::vector<Tensor>& in) {
    return attention(c, in[0], in[1], in[2], testing::int_tensor(cu_seqlens), nullptr, shape);
  };
}

std::vector<Tensor> inputs(int64_t tokens, const AttentionShape& s) {
  return {random_tensor({tokens, int64_t{s.heads} * s.head_dim}, 1),
          random_tensor({tokens, int64_t{s.kv_heads} * s.head_dim}, 2),
          random_tensor({tokens, int64_t{s.kv_heads} * s.head_dim}, 3)};
}

double plain(const std::vector<Tensor>& in, const AttentionShape& s, int64_t begin, int64_t query,
             int64_t head, int64_t i) {
  const int64_t d = s.head_dim, kv = head / (s.heads / s.kv_heads),
                low = s.window > 0 ? std::max(begin, query - s.window + 1) : begin;
  double total = 0, mixed = 0;
  for (int64_t key = low; key <= query; ++key) {
    double dot = 0;
    for (int64_t j = 0; j < d; ++j)
      dot += testing::get(in[0], (query * s.heads + head) * d + j) *
             testing::get(in[1], (key * s.kv_heads + kv) * d + j);
    const double p = std::exp(dot * static_cast<double>(s.scale));
    total += p;
    mixed += p * testing::get(in[2], (key * s.kv_heads + kv) * d + i);
  }
  return mixed / total;
}

TEST(Attention, MatchesThePlainSum) {
  for (const int64_t window : {0, 5, 70}) {
    const AttentionShape shape{6, 2, 5, 0.4f, window};
    const std::vector<int32_t> ends{0, 1, 38, 200};
    const auto in = inputs(200, shape);
    const Tensor out = testing::run(attend(ends, shape), in, Isa::kScalar).output;
    for (size_t sequence = 0; sequence < 3; ++sequence)
      for (int64_t query = ends[sequence]; query < ends[sequence + 1]; query += 7)
        for (int64_t head = 0; head < 6; ++head)
          EXPECT_NEAR(testing::get(out, (query * 6 + head) * 5 + 2),
                      plain(in, shape, ends[sequence], query, head, 2), 1e-12);
  }
}

TEST(Attention, Gradients) {
  testing::expect_gradients(attend({0, 1, 12}, {4, 2, 3, 0.5f, 0}), inputs(12, {4, 2, 3, 0, 0}));
  testing::expect_gradients(attend({0, 70}, {2, 1, 2, 0.5f, 0}), inputs(70, {2, 1, 2, 0, 0}));
  testing::expect_gradients(attend({0, 70}, {1, 1, 2, 0.5f, 9}), inputs(70, {1, 1, 2, 0, 9}));
}

FLAGSCALE_EVERY_SET(AttentionSets);
TEST_P(AttentionSets, AgreesWithScalarInDouble) {
  testing::expect_agrees(GetParam(), attend({0, 3, 150, 187}, {6, 2, 24, 0.2f, 0}),
                         inputs(187, {6, 2, 24, 0, 0}), 2e-5, 4e-2);
  testing::expect_agrees(GetParam(), attend({0, 187}, {3, 3, 64, 0.125f, 33}), inputs(187, {3, 3, 64, 0, 0}),
                         2e-5, 4e-2);
  testing::expect_agrees(GetParam(), attend({0, 1, 2, 66, 131}, {9, 3, 40, 0.15f, 0}),
                         inputs(131, {9, 3, 40, 0, 0}), 2e-5, 4e-2);
  testing::expect_agrees(GetParam(), attend({0, 77}, {4, 1, 128, 0.09f, 0}), inputs(77, {4, 1, 128, 0, 0}),
                         2e-5, 4e-2);
}

// Sizes that fill no tile of a kernel, the largest that a GPU trains, and windows beside tensor cores' tiles.
TEST_P(AttentionSets, HeadsOfAnySizeAgree) {
  for (const auto& [dim, window] : {std::pair{80, 0}, {96, 45}, {128, 70}, {128, 7}, {200, 0}, {256, 50}}) {
    SCOPED_TRACE("dim " + std::to_string(dim) + " window " + std::to_string(window));
    const AttentionShape shape{4, 2, dim, 1 / std::sqrt(static_cast<float>(dim)), window};
    testing::expect_agrees(GetParam(), attend({0, 2, 67, 197}, shape), inputs(197, shape), 2e-5, 4e-2);
  }
}

// Sequences that begin and end within tiles of 64 and 128, longer than some tiles of keys; groups of heads;
// windows that leave out whole tiles. Twice, to the bit.
TEST_P(AttentionSets, LongSequencesAgreeAndRepeat) {
  const std::vector<int32_t> whole{0, 513}, mixed{0, 129, 130, 449, 513};
  const std::pair<AttentionShape, std::vector<int32_t>> cases[] = {
      {{2, 2, 64, 0.125f, 0}, whole},   {{4, 1, 64, 0.125f, 0}, mixed},  {{2, 1, 64, 0.125f, 150}, whole},
      {{2, 2, 128, 0.09f, 0}, whole},   {{8, 1, 128, 0.09f, 0}, mixed},  {{2, 1, 128, 0.09f, 150}, whole},
      {{2, 1, 128, 0.09f, 260}, mixed}, {{4, 2, 80, 0.11f, 300}, whole}, {{3, 3, 48, 0.14f, 64}, mixed},
  };
  for (const auto& [shape, ends] : cases) {
    SCOPED_TRACE(::testing::Message()
                 << shape.heads << "/" << shape.kv_heads << " heads of " << shape.head_dim << ", window "
                 << shape.window << ", " << ends.size() - 1 << " sequences");
    const auto in = inputs(513, shape);
    testing::expect_agrees(GetParam(), attend(ends, shape), in, 2e-5, 4e-2);
    std::vector<Tensor> narrow;
    for (const Tensor& x : in) narrow.push_back(testing::converted(x, DType::kBF16));
    const auto once = testing::run(attend(ends, shape), narrow, GetParam()),
               again = testing::run(attend(ends, shape), narrow, GetParam());
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(testing::relative_error(once.grads[i], again.grads[i]), 0) << i;
  }
}

// More tiles than a GPU has multiprocessors, of whose blocks each then has several, in sequences that are
// long on average; beside fp32, which other kernels do. Scores are large, so that few keys of many count.
TEST_P(AttentionSets, ManyTilesAgreeAndRepeat) {
  if (GetParam() != Isa::kCuda) GTEST_SKIP() << "a processor has one way for all sizes";
  for (const auto& [dim, window] : {std::pair{64, 0}, {64, 700}, {128, 0}, {128, 700}}) {
    SCOPED_TRACE("dim " + std::to_string(dim) + " window " + std::to_string(window));
    const AttentionShape shape{8, 2, dim, 4 / std::sqrt(static_cast<float>(dim)), window};
    const auto function = attend({0, 3000, 3001, 6200}, shape);
    std::vector<Tensor> narrow, wide;
    for (const Tensor& x : inputs(6200, shape)) {
      narrow.push_back(testing::converted(x, DType::kBF16));
      wide.push_back(testing::converted(narrow.back(), DType::kF32));
    }
    const auto once = testing::run(function, narrow, GetParam()),
               again = testing::run(function, narrow, GetParam()),
               plain = testing::run(function, wide, GetParam());
    EXPECT_LT(testing::relative_error(once.output, plain.output), 4e-2);
    EXPECT_EQ(testing::relative_error(once.output, again.output), 0);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_LT(testing::relative_error(once.grads[i], plain.grads[i]), 4e-2) << i;
      EXPECT_EQ(testing::relative_error(once.grads[i], again.grads[i]), 0) << i;
    }
  }
}

// One kv head: every block of keys waits for the one before it.
TEST_P(AttentionSets, ThreadsChangeNothing) {
  for (const AttentionShape& shape : {AttentionShape{4, 2, 16, 0.25f, 0}, AttentionShape{2, 1, 16, 0.25f, 0},
                                      AttentionShape{2, 1, 16, 0.25f, 90}})
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      std::vector<Tensor> in;
      for (const Tensor& x : inputs(500, shape)) in.push_back(testing::converted(x, dtype));
      const auto function = attend({0, 100, 500}, shape);
      const auto one = testing::run(function, in, GetParam(), 1),
                 four = testing::run(function, in, GetParam(), 4);
      EXPECT_EQ(testing::relative_error(one.output, four.output), 0);
      for (size_t i = 0; i < 3; ++i) EXPECT_EQ(testing::relative_error(one.grads[i], four.grads[i]), 0);
    }
}

// One plan serves any number of sequences and tokens up to its capacity.
TEST(Attention, LiveCounts) {
  const AttentionShape shape{2, 1, 8, 0.3f, 0};
  const int64_t tokens = 70, sequences = 2;
  const auto in = inputs(90, shape);
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team);
  Context c{recorder};
  const auto live = [&](size_t i) { return testing::converted(in[i], DType::kF32).with_live(&tokens); };
  const Tensor out =
      attention(c, live(0), live(1), live(2), testing::int_tensor({0, 60, 70, -1, -1}), &sequences, shape);
  for (int64_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(testing::get(out, 69 * 16 + i), plain(in, shape, 60, 69, 0, i), 1e-5);
    EXPECT_TRUE(std::isnan(testing::get(out, 70 * 16 + i))) << "a row past the live ones was written";
  }
}

// q, k and v as columns of one product: the gradient is one tensor, written in place.
TEST_P(AttentionSets, GradientsOfAFusedProduct) {
  const testing::Function fused = [](Context& c, const std::vector<Tensor>& in) {
    return attention(c, in[0].columns(0, 6), in[0].columns(6, 3), in[0].columns(9, 3),
                     testing::int_tensor({0, 11}), nullptr, {2, 1, 3, 0.5f, 0});
  };
  testing::expect_gradients(fused, {random_tensor({11, 12}, 1)});
  testing::expect_agrees(GetParam(), fused, {random_tensor({11, 12}, 1)}, 2e-5, 4e-2);
}

// Positions that differ from rows, and one beyond the tables.
Rope rope_of(int64_t tokens, int64_t dim, bool interleaved) {
  std::vector<int32_t> positions;
  for (int64_t i = 0; i < tokens; ++i) positions.push_back(static_cast<int32_t>((i * 7 + 3) % (tokens + 2)));
  const Tensor cos = make_tensor(testing::allocator(), {tokens, dim / 2}, DType::kF32),
               sin = make_tensor(testing::allocator(), {tokens, dim / 2}, DType::kF32);
  for (int64_t i = 0; i < cos.shape().numel(); ++i) {
    const double angle = 0.37 * static_cast<double>(i);
    testing::set(cos, i, std::cos(angle)), testing::set(sin, i, std::sin(angle));
  }
  return {testing::int_tensor(positions), cos, sin, interleaved};
}

testing::Function rotate_and_attend(const std::vector<int32_t>& ends, const AttentionShape& shape,
                                    const Rope& rope, bool apart) {
  return [=](Context& c, const std::vector<Tensor>& in) {
    const Tensor cu_seqlens = testing::int_tensor(ends);
    if (!apart) return rope_attention(c, in[0], in[1], in[2], rope, cu_seqlens, nullptr, shape);
    const auto rotate = [&](const Tensor& x) {
      return op::rope(c, x, rope.positions, rope.cos, rope.sin, rope.interleaved);
    };
    return attention(c, rotate(in[0]), rotate(in[1]), in[2], cu_seqlens, nullptr, shape);
  };
}

TEST(Attention, GradientsOfWhatIsRotatedFirst) {
  for (const bool interleaved : {false, true})
    testing::expect_gradients(
        rotate_and_attend({0, 1, 12}, {4, 2, 4, 0.5f, 0}, rope_of(12, 4, interleaved), false),
        inputs(12, {4, 2, 4, 0, 0}));
}

TEST_P(AttentionSets, RotatedWhereTheyLieAreTheSame) {
  const AttentionShape shape{4, 2, 64, 0.125f, 0};
  Rope rope = rope_of(197, 64, false);
  std::vector<Tensor> in, copies;
  for (const Tensor& x : inputs(197, shape)) {
    in.push_back(testing::converted(x, DType::kBF16));
    copies.push_back(testing::converted(x, DType::kBF16));
  }
  const std::vector<int32_t> ends{0, 70, 71, 197};
  const auto apart = testing::run(rotate_and_attend(ends, shape, rope, false), in, GetParam());
  rope.in_place = true;
  const auto got = testing::run(rotate_and_attend(ends, shape, rope, false), copies, GetParam());
  EXPECT_EQ(testing::relative_error(got.output, apart.output), 0);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(testing::relative_error(got.grads[i], apart.grads[i]), 0) << i;
  EXPECT_GT(testing::relative_error(copies[0], in[0]), 0);
}

// Sizes that a GPU's kernels turn back as they write gradients, and others.
TEST_P(AttentionSets, RotatedFirstAgrees) {
  const std::vector<int32_t> ends{0, 70, 71, 197};
  for (const auto& [dim, interleaved] :
       {std::pair{64, false}, {64, true}, {128, false}, {48, false}, {96, false}}) {
    SCOPED_TRACE("dim " + std::to_string(dim) + (interleaved ? ", interleaved" : ""));
    const AttentionShape shape{4, 2, dim, 1 / std::sqrt(static_cast<float>(dim)), 0};
    testing::expect_agrees(GetParam(), rotate_and_attend(ends, shape, rope_of(197, dim, interleaved), false),
                           inputs(197, shape), 2e-5, 4e-2);
  }
}

// Longer than what a GPU does in two walks.
TEST_P(AttentionSets, LongSequencesRotatedFirstAreThoseOfTwoOps) {
  if (GetParam() != Isa::kCuda) GTEST_SKIP() << "a processor has one way for all lengths";
  for (const int dim : {64, 128}) {
    const AttentionShape shape{2, 1, dim, 1 / std::sqrt(static_cast<float>(dim)), 0};
    const Rope rope = rope_of(4100, dim, false);
    std::vector<Tensor> in;
    for (const Tensor& x : inputs(4100, shape)) in.push_back(testing::converted(x, DType::kBF16));
    const auto one = testing::run(rotate_and_attend({0, 4100}, shape, rope, false), in, GetParam()),
               two = testing::run(rotate_and_attend({0, 4100}, shape, rope, true), in, GetParam());
    EXPECT_EQ(testing::relative_error(one.output, two.output), 0);
    EXPECT_EQ(testing::relative_error(one.grads[2], two.grads[2]), 0);
    for (size_t i = 0; i < 2; ++i) EXPECT_LT(testing::relative_error(one.grads[i], two.grads[i]), 1e-2) << i;
  }
}

TEST_P(AttentionSets, RowsThatAreNotWholePairs) {
  const testing::Function odd = [](Context& c, const std::vector<Tensor>& in) {
    return attention(c, in[0].columns(1, 16), in[0].columns(17, 8), in[0].columns(25, 8),
                     testing::int_tensor({0, 11}), nullptr, {2, 1, 8, 0.5f, 0});
  };
  const Tensor x = random_tensor({11, 33}, 1);
  const auto exact = testing::run(odd, {x}, Isa::kScalar);
  const auto got = testing::run(odd, {testing::converted(x, DType::kBF16)}, GetParam());
  EXPECT_LT(testing::relative_error(got.output, exact.output), 3e-2);
  for (int64_t i = 0; i < 11; ++i)
    for (int64_t j = 1; j < 33; ++j)
      EXPECT_NEAR(testing::get(got.grads[0], i * 33 + j), testing::get(exact.grads[0], i * 33 + j), 0.1)
          << i << ", " << j;
}

}  // namespace
}  // namespace flagscale::op
