#include "op/matmul/matmul.h"

#include <fmt/format.h>

#include "base/error.h"
#include "op/matmul/matmul_onednn.h"
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

FLAGSCALE_EVERY_SET(MatmulSets);
TEST_P(MatmulSets, EveryTypeAndTranspositionAgainstThePlainSum) {
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
      const Isa isa = GetParam();
      const Tensor fa = testing::converted(a, DType::kF32), fb = testing::converted(b, DType::kF32);
      EXPECT_LT(testing::relative_error(product(isa, fa, fb, trans_a, trans_b, DType::kF32), want), 2e-6);
      const Tensor ha = testing::converted(a, DType::kBF16), hb = testing::converted(b, DType::kBF16);
      EXPECT_LT(testing::relative_error(product(isa, ha, hb, trans_a, trans_b, DType::kF32), want), 1e-2);
      EXPECT_LT(testing::relative_error(product(isa, ha, hb, trans_a, trans_b, DType::kBF16), want), 2e-2);
    }
}

// What an adapter adds, for which a GPU has a kernel of its own: few numbers a sum, rows that fill no tile.
TEST_P(MatmulSets, ThinProductsAreAddedToWhatIsThere) {
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, GetParam());
  for (const int64_t k : {16, 32, 48, 64})
    for (const bool trans_b : {false, true}) {
      const int64_t rows = 300, columns = 288;
      const Tensor h = random_tensor({rows, k + 2}, 1, DType::kBF16).columns(2, k),
                   b = random_tensor(trans_b ? Shape{columns, k} : Shape{k, columns}, 2, DType::kBF16),
                   wide = random_tensor({rows, columns + 16}, 3, DType::kBF16),
                   before = testing::converted(wide, DType::kF32);
      launch_matmul(recorder, {h, b, {}, wide.columns(8, columns), false, trans_b, nullptr, {}});
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = -8; j < columns + 8; ++j) {
          const int64_t at = i * (columns + 16) + j + 8;
          double sum = testing::get(before, at);
          for (int64_t l = 0; j >= 0 && j < columns && l < k; ++l)
            sum += static_cast<double>(to_float(h.data<BF16>()[i * (k + 2) + l])) *
                   testing::get(b, trans_b ? j * k + l : l * columns + j);
          ASSERT_NEAR(testing::get(wide, at), sum, std::fabs(sum) / 128 + 1e-4) << k << " " << i << " " << j;
        }
    }
}

TEST_P(MatmulSets, GradientsInBf16AreRoundedOnce) {
  const Tensor x = testing::converted(random_tensor({1700, 24}, 3), DType::kBF16);  // several blocks along k
  const testing::Function function = [&](Context& c, const std::vector<Tensor>& in) {
    return linear(c, x, in[0], in[1]);
  };
  testing::expect_rounded_sums(GetParam(), function, {random_tensor({40, 24}, 1), random_tensor({40}, 2)});
}

TEST(Matmul, Gradients) {
  testing::expect_gradients(kLinear, {random_tensor({9, 7}, 1), random_tensor({5, 7}, 2)});
  testing::expect_gradients(kBiased,
                            {random_tensor({9, 7}, 1), random_tensor({5, 7}, 2), random_tensor({5}, 3)});
}

TEST_P(MatmulSets, AgreesWithScalarInDouble) {
  testing::expect_agrees(GetParam(), kBiased,
                         {random_tensor({77, 100}, 1), random_tensor({65, 100}, 2), random_tensor({65}, 3)});
}

TEST_P(MatmulSets, ASumDependsOnItsLengthAlone) {
  const Isa isa = GetParam();
  const int64_t k = 1602;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor a = testing::converted(random_tensor({60, k}, 1), dtype),
                 b = testing::converted(random_tensor({100, k}, 2), dtype);
    const Tensor all = product(isa, a, b, false, true, DType::kF32),
                 one_thread = product(isa, a, b, false, true, DType::kF32, 1);
    for (int64_t row : {0, 13, 14, 41, 42, 56, 59}) {
      const Tensor alone = product(isa, a.rows(row, 1), b, false, true, DType::kF32);
      for (int64_t j = 0; j < 100; ++j) {
        ASSERT_EQ(alone.data<float>()[j], all.data<float>()[row * 100 + j]);
        ASSERT_EQ(one_thread.data<float>()[row * 100 + j], all.data<float>()[row * 100 + j]);
      }
    }
  }
}

// Serving's products: a row alone, among few, among many and in another tile, all with the same bits.
TEST_P(MatmulSets, ARowOfASteadyProductHasTheSameBitsInAnyBatch) {
  const Isa isa = GetParam();
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, isa);
  Context c{recorder};
  struct Case {
    int64_t n, k, most;
  };
  for (const Case& s : {Case{83, 64, 300}, Case{132, 576, 300}, Case{96, 2120, 140}, Case{40, 401, 40},
                        Case{8452, 72, 40}, Case{12000, 72, 260}})
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(fmt::format("{} n {} k {}", flagscale::name(dtype), s.n, s.k));
      const Tensor x = random_tensor({s.most, s.k}, 1), w = random_tensor({s.n, s.k}, 2),
                   bias = random_tensor({s.n}, 3);
      const Tensor nx = testing::converted(x, dtype), nw = testing::converted(w, dtype),
                   nbias = testing::converted(bias, dtype);
      const auto steady = [&](int64_t first, int64_t rows, DType out) {
        return linear(c, nx.rows(first, rows), nw, nbias, out, true);
      };
      EagerRecorder exact(testing::allocator(), team, Isa::kScalar);
      Context wide{exact};
      const auto to_double = [](const Tensor& t) { return testing::converted(t, DType::kF64); };
      const Tensor want = linear(wide, to_double(nx.rows(0, 40)), to_double(nw), to_double(nbias)),
                   all = steady(0, s.most, DType::kF32);
      EXPECT_LT(testing::relative_error(all.rows(0, 40), want), 3e-6);
      EXPECT_LT(testing::relative_error(steady(0, 40, dtype), want), dtype == DType::kF32 ? 3e-6 : 5e-3);
      for (const int64_t rows : {1, 2, 8, 9, 17, 33, 65, 130}) {
        const int64_t first = rows > 3 ? 2 : s.most - rows;
        if (first + rows > s.most) continue;
        const Tensor part = steady(first, rows, DType::kF32);
        for (int64_t i = 0; i < rows * s.n; ++i)
          ASSERT_EQ(part.data<float>()[i], all.data<float>()[first * s.n + i]) << rows << " rows, " << i;
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

// What a kernel reads in place, copies, widens or pairs depends on strides, alignment and the length of k.
TEST_P(MatmulSets, ViewsOddLengthsAndSeveralBlocksOfK) {
  for (const int64_t k : {1, 33, 2048, 2051}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const Tensor wide = testing::converted(random_tensor({31, k + 7}, 1), dtype);
      const Tensor weights = testing::converted(random_tensor({k, 90}, 2), dtype);
      const Tensor a = wide.columns(3, k), b = weights.columns(5, 70);
      const Tensor want = make_tensor(testing::allocator(), {31, 70}, DType::kF64);
      for (int64_t i = 0; i < 31; ++i)
        for (int64_t j = 0; j < 70; ++j) {
          double sum = 0;
          for (int64_t l = 0; l < k; ++l)
            sum += testing::get(wide, i * (k + 7) + 3 + l) * testing::get(weights, l * 90 + 5 + j);
          testing::set(want, i * 70 + j, sum);
        }
      SCOPED_TRACE(fmt::format("{} k {}", flagscale::name(dtype), k));
      EXPECT_LT(testing::relative_error(product(GetParam(), a, b, false, false, DType::kF32), want), 3e-6);
      EXPECT_LT(testing::relative_error(product(GetParam(), a, b, false, false, dtype), want),
                dtype == DType::kF32 ? 3e-6 : 5e-3);
    }
  }
}

TEST_P(MatmulSets, LiveRowsAlone) {
  const Isa isa = GetParam();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Tensor dy = testing::converted(random_tensor({700, 50}, 1), dtype);
    const Tensor x = testing::converted(random_tensor({700, 40}, 2), dtype);
    const Tensor w = testing::converted(random_tensor({50, 40}, 3), dtype);
    for (const int64_t live : {0, 1, 27, 700}) {
      // Along the rows: those in use, and no other is written.
      const Tensor dx = product(isa, dy.with_live(&live), w, false, false, DType::kF32);
      const Tensor all = product(isa, dy, w, false, false, DType::kF32);
      for (int64_t i = 0; i < 700 * 40; ++i) {
        if (i < live * 40) {
          ASSERT_EQ(testing::get(dx, i), testing::get(all, i));
        } else {
          ASSERT_TRUE(std::isnan(testing::get(dx, i)));
        }
      }
      // Along k: as a product of the shorter matrices; of none it is zero.
      const Tensor dw = product(isa, dy.with_live(&live), x.with_live(&live), true, false, DType::kF32);
      const Tensor part =
          live == 0 ? Tensor() : product(isa, dy.rows(0, live), x.rows(0, live), true, false, DType::kF32);
      for (int64_t i = 0; i < 50 * 40; ++i)
        ASSERT_EQ(testing::get(dw, i), part.defined() ? testing::get(part, i) : 0);
    }
  }
}

TEST_P(MatmulSets, ManyBlocksOfSeveralTasks) {
  const Tensor a = random_tensor({520, 900}, 1, DType::kF32), b = random_tensor({640, 900}, 2, DType::kF32);
  const Tensor want = product(Isa::kScalar, a, b, false, true, DType::kF32, 2);
  EXPECT_LT(testing::relative_error(product(GetParam(), a, b, false, true, DType::kF32), want), 2e-6);
  const Tensor dw =
      product(GetParam(), a, random_tensor({520, 700}, 3, DType::kF32), true, false, DType::kF32);
  const Tensor plain =
      product(Isa::kScalar, a, random_tensor({520, 700}, 3, DType::kF32), true, false, DType::kF32);
  EXPECT_LT(testing::relative_error(dw, plain), 2e-6);
}

// The other provider gives the same products, within rounding.
TEST(Matmul, OneDnn) {
  struct Provider {
    explicit Provider(const char* name) { setenv("FLAGSCALE_MATMUL", name, 1); }
    ~Provider() { unsetenv("FLAGSCALE_MATMUL"); }
  };
  const Tensor a = random_tensor({40, 60}, 1, DType::kF32), b = random_tensor({50, 60}, 2, DType::kF32);
  const Tensor bias = random_tensor({50}, 3, DType::kF32);
  if (!has_onednn()) {
    const Provider provider("onednn");
    EXPECT_THROW(product(machine_isa(), a, b, false, true, DType::kF32), Error);
    GTEST_SKIP() << "built without oneDNN: its products are not tested";
  }
  const auto forward_and_gradients = [&](const char* name) {
    const Provider provider(name);
    return testing::run(kBiased, {a, b, bias}, machine_isa());
  };
  const testing::Result own = forward_and_gradients("own"), other = forward_and_gradients("onednn");
  EXPECT_LT(testing::relative_error(other.output, own.output), 1e-5);
  for (size_t i = 0; i < 3; ++i) EXPECT_LT(testing::relative_error(other.grads[i], own.grads[i]), 1e-5) << i;
  const Provider provider("onednn");
  const int64_t live = 7;
  const Tensor part = product(machine_isa(), a.with_live(&live), b, false, true, DType::kF32);
  EXPECT_TRUE(std::isnan(testing::get(part, 7 * 50)));
  for (int64_t i = 0; i < 7 * 50; ++i)
    ASSERT_NEAR(testing::get(part, i), testing::get(own.output, i) - testing::get(bias, i % 50), 1e-4);
}

TEST(Matmul, RefusesAnUnknownProvider) {
  setenv("FLAGSCALE_MATMUL", "blas", 1);
  const Tensor a = random_tensor({4, 4}, 1, DType::kF32);
  EXPECT_THROW(product(machine_isa(), a, a, false, false, DType::kF32), Error);
  unsetenv("FLAGSCALE_MATMUL");
}

TEST(Matmul, RefusesShapesThatDoNotFit) {
  EXPECT_THROW(
      product(machine_isa(), random_tensor({2, 3}, 1), random_tensor({4, 5}, 2), false, false, DType::kF64),
      Error);
}

}  // namespace
}  // namespace flagscale::op
