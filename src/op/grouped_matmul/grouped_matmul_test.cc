#include "op/grouped_matmul/grouped_matmul.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
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

FLAGSCALE_EVERY_SET(GroupedMatmulSets);
TEST_P(GroupedMatmulSets, AgreesWithScalarInDouble) {
  testing::expect_agrees(GetParam(), grouped({41, 0, 1, 80, 6}),
                         {random_tensor({64, 2, 70}, 1), random_tensor({5 * 45, 70}, 2)});
}

// Sizes for a GPU's tiles: experts without rows, with all of them, with fewer or more than some tiles;
// columns that fill tiles, that do not, and that are no multiple of a step.
TEST_P(GroupedMatmulSets, AgreesWithScalarInDoubleAtTheEdgesOfTiles) {
  const std::vector<std::vector<int32_t>> all_counts{
      {0, 128, 0, 129, 64, 1, 256, 0}, {0, 0, 578, 0, 0, 0, 0, 0}, {257, 300, 0, 0, 21, 0, 0, 0}};
  for (const auto& [in, out] : {std::pair{64, 64}, {192, 320}, {136, 72}})
    for (const auto& counts : all_counts) {
      SCOPED_TRACE(fmt::format("{} to {}, {} rows first", in, out, counts[0]));
      testing::expect_agrees(GetParam(), grouped(counts),
                             {random_tensor({289, 2, in}, 1), random_tensor({8 * out, in}, 2)});
    }
}

bool finite(const Tensor& t, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i)
    if (!std::isfinite(get(t, i))) return false;
  return true;
}

// Numbers that are none in an expert's rows stay with that expert.
TEST_P(GroupedMatmulSets, AnExpertsRowsAreItsOwn) {
  constexpr int64_t kIn = 128, kOut = 64;
  const std::vector<int32_t> counts{100, 70, 30};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor x = testing::converted(random_tensor({100, 2, kIn}, 1), dtype),
                 w = testing::converted(random_tensor({3 * kOut, kIn}, 2), dtype);
    for (int64_t i = 100 * kIn; i < 170 * kIn; ++i) testing::set(x, i, NAN);
    const testing::Result got = testing::run(grouped(counts), {x, w}, GetParam());
    EXPECT_TRUE(finite(got.output, 0, 100 * kOut) && finite(got.output, 170 * kOut, 200 * kOut));
    EXPECT_TRUE(finite(got.grads[0], 0, 200 * kIn));
    EXPECT_TRUE(finite(got.grads[1], 0, kOut * kIn) && finite(got.grads[1], 2 * kOut * kIn, 3 * kOut * kIn));
    EXPECT_FALSE(finite(got.grads[1], kOut * kIn, 2 * kOut * kIn));
  }
}

// Gradients and `into` add to what is there, or overwrite it.
TEST_P(GroupedMatmulSets, AddsOrOverwrites) {
  constexpr int64_t kIn = 64, kOut = 136;
  const Tensor counts = testing::int_tensor({90, 0, 38});
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor x = testing::converted(random_tensor({64, 2, kIn}, 1), dtype),
                 w = testing::converted(random_tensor({3 * kOut, kIn}, 2), dtype),
                 dy = testing::converted(random_tensor({64, 2, kOut}, 3), dtype);
    const Team team(2);
    EagerRecorder recorder(testing::allocator(), team, GetParam());
    const auto results = [&](int64_t accumulate) {
      const Tensor dw = random_tensor({3 * kOut, kIn}, 4, DType::kF32),
                   into = random_tensor({64, 2, kOut}, 5, DType::kF32);
      recorder.launch(kGroupedMatmul, {dy, x, counts, {}, dw, false, &accumulate});
      recorder.launch(kGroupedMatmul, {x, w, counts, {}, {}, true, &accumulate, into});
      return std::pair{dw, into};
    };
    const auto over = results(0), added = results(1);
    const Tensor dw = random_tensor({3 * kOut, kIn}, 4, DType::kF32),
                 into = random_tensor({64, 2, kOut}, 5, DType::kF32);
    for (int64_t i = 0; i < dw.shape().numel(); ++i)
      ASSERT_NEAR(get(added.first, i), get(over.first, i) + get(dw, i), 1e-4) << i;
    for (int64_t i = 0; i < into.shape().numel(); ++i)
      ASSERT_NEAR(get(added.second, i), get(over.second, i) + get(into, i), 1e-4) << i;
    for (int64_t i = kOut * kIn; i < 2 * kOut * kIn; ++i) ASSERT_EQ(get(over.first, i), 0) << i;
  }
}

TEST_P(GroupedMatmulSets, GradientsInBf16AreRoundedOnce) {
  const Tensor x = testing::converted(random_tensor({210, 2, 24}, 3), DType::kBF16),
               counts = testing::int_tensor({130, 0, 1, 289});
  const testing::Function function = [&](Context& c, const std::vector<Tensor>& in) {
    return grouped_linear(c, x, counts, in[0]);
  };
  testing::expect_rounded_sums(GetParam(), function, {random_tensor({4 * 40, 24}, 1)});
}

TEST_P(GroupedMatmulSets, RepeatsToTheBit) {
  const std::vector<Tensor> in{random_tensor({300, 2, 192}, 1, DType::kBF16),
                               random_tensor({4 * 256, 192}, 2, DType::kBF16)};
  const testing::Result a = testing::run(grouped({333, 0, 200, 67}), in, GetParam()),
                        b = testing::run(grouped({333, 0, 200, 67}), in, GetParam());
  EXPECT_EQ(std::memcmp(a.output.raw(), b.output.raw(), a.output.bytes()), 0);
  for (size_t i = 0; i < 2; ++i)
    EXPECT_EQ(std::memcmp(a.grads[i].raw(), b.grads[i].raw(), a.grads[i].bytes()), 0);
}

// Serving: a row alone, among few of its expert, among many, and with other experts' rows about it has the
// same bits. Counts on both sides of where a GPU goes from one kernel to the next.
TEST_P(GroupedMatmulSets, ARowHasTheSameBitsInAnyBatch) {
  constexpr int64_t kExperts = 6;
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  Context c{recorder};
  for (const auto& [in, out] : {std::pair{64, 80}, {328, 136}, {2048, 200}, {70, 45}})
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(fmt::format("{} {} to {}", flagscale::name(dtype), in, out));
      const Tensor x = testing::converted(random_tensor({300, 1, in}, 1), dtype),
                   w = testing::converted(random_tensor({kExperts * out, in}, 2), dtype);
      // The first `count` rows of x for expert 3, between rows of others.
      const auto product = [&](int32_t before, int32_t count, int32_t after) {
        const int64_t rows = before + count + after;
        const Tensor mine = recorder.empty({rows, 1, in}, dtype);
        const auto row = static_cast<size_t>(in) * size_of(dtype);
        for (int64_t i = 0; i < rows; ++i) {
          const int64_t from = i < before ? 299 - i : i < before + count ? i - before : 299 - i;
          std::memcpy(static_cast<std::byte*>(mine.raw()) + static_cast<size_t>(i) * row,
                      static_cast<const std::byte*>(x.raw()) + static_cast<size_t>(from) * row, row);
        }
        const Tensor y = grouped_linear(c, mine, testing::int_tensor({before, 0, 0, count, after, 0}), w);
        return y.rows(before, count);
      };
      const Tensor all = product(7, 210, 5);
      for (const auto& [before, count, after] : {std::array{0, 1, 0},
                                                 {3, 1, 0},
                                                 {0, 8, 1},
                                                 {2, 9, 3},
                                                 {1, 16, 2},
                                                 {5, 29, 0},
                                                 {0, 48, 0},
                                                 {0, 49, 0},
                                                 {40, 65, 1},
                                                 {9, 129, 40}}) {
        const Tensor part = product(before, count, after);
        ASSERT_EQ(std::memcmp(part.raw(), all.raw(), part.bytes()), 0)
            << before << ", " << count << " and " << after << " rows";
      }
    }
}

// As many experts as a warp finds in several goes, most of them idle.
TEST_P(GroupedMatmulSets, ManyExpertsOfFewRows) {
  for (const int64_t experts : {129, 300}) {
    std::vector<int32_t> counts(static_cast<size_t>(experts), 0);
    int32_t rows = 0;
    for (const int64_t e : {int64_t{0}, int64_t{5}, int64_t{6}, int64_t{63}, int64_t{127}, experts - 1})
      rows += counts[static_cast<size_t>(e)] = static_cast<int32_t>(1 + e % 4 * 6);
    testing::expect_agrees(GetParam(), grouped(counts),
                           {random_tensor({rows, 1, 72}, 1), random_tensor({experts * 24, 72}, 2)});
  }
}

FLAGSCALE_EVERY_CPU_SET(GroupedMatmulCpuSets);

// An expert's rows are those of the plain product, to the bit; so is its weight's gradient, added or not.
TEST_P(GroupedMatmulCpuSets, IsThePlainProductsToTheBit) {
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
