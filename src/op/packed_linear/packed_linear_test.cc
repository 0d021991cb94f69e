#include "op/packed_linear/packed_linear.h"

#include "base/error.h"
#include "op/packed_linear/fast_formats.h"
#include "op/packed_linear/packed_weight_test_support.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

// In double, from x as it is.
Tensor plain(const Packed& p, const Tensor& x) {
  const int64_t rows = x.dim(0), in = x.dim(1), out = p.packed.out();
  const Tensor y = make_tensor(testing::allocator(), {rows, out}, DType::kF64);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < out; ++j) {
      double sum = testing::get(p.bias, j);
      for (int64_t k = 0; k < in; ++k)
        sum += testing::get(x, i * in + k) * testing::get(p.weight, j * in + k);
      testing::set(y, i * out + j, sum);
    }
  return y;
}

// x as a product in integers sees it: round(x / scale) * scale, scale = largest of 32 / 127; elements above
// 10 times the row's root mean square as they are.
Tensor quantised(const Tensor& x) {
  const Tensor y = testing::converted(x, DType::kF64);
  const int64_t in = x.dim(1);
  for (int64_t i = 0; i < x.dim(0); ++i) {
    const float* const row = x.data<float>() + i * in;
    double squares = 0;
    for (int64_t k = 0; k < in; ++k) squares += std::pow(static_cast<double>(row[k]), 2);
    const double most = 10 * std::sqrt(squares / static_cast<double>(in));
    const auto apart = [&](int64_t k) { return std::fabs(static_cast<double>(row[k])) > most; };
    for (int64_t g = 0; g < in; g += 32) {
      float largest = 0;
      for (int64_t k = g; k < std::min(in, g + 32); ++k)
        if (!apart(k)) largest = std::max(largest, std::fabs(row[k]));
      const float scale = largest / 127.f, inverse = largest > 0 ? 127.f / largest : 0;
      for (int64_t k = g; k < std::min(in, g + 32); ++k)
        if (!apart(k))
          testing::set(y, i * in + k,
                       static_cast<double>(std::nearbyint(row[k] * inverse)) * static_cast<double>(scale));
    }
  }
  return y;
}

// Rows as a model has them: a few elements far larger than the rest.
Tensor with_outliers(const Tensor& x) {
  const int64_t in = x.dim(1);
  for (int64_t i = 0; i < x.dim(0); ++i)
    for (const int64_t k : {int64_t{1}, 64 + 5 * i, 64 + 5 * i + 1, in - 1})
      if (i % 4 != 3) x.data<float>()[i * in + k] = (k % 2 ? -90.f : 70.f) - static_cast<float>(i % 7);
  return x;
}

class Formats : public ::testing::TestWithParam<Packing> {};

TEST_P(Formats, ExactInEverySetIsThePlainSum) {
  const int64_t in = width_for(GetParam());
  const Tensor x = random_tensor({15, in}, 3, DType::kF32);
  const Packed p(75, in, GetParam());
  const Tensor want = plain(p, x);
  for (const Isa isa : runnable_isas())
    EXPECT_LT(testing::relative_error(p.run(x, isa), want), 2e-6) << name(isa);
}

TEST_P(Formats, Int8InEverySetIsThePlainSumOfRoundedActivations) {
  if (!integer(GetParam())) GTEST_SKIP() << "a floating format";
  const int64_t in = width_for(GetParam());
  const Tensor x = with_outliers(random_tensor({15, in}, 3, DType::kF32));
  std::fill_n(x.data<float>() + 32, 32, 0.f);
  const Packed p(75, in, GetParam(), Compute::kInt8);
  const Tensor want = plain(p, quantised(x));
  for (const Isa isa : runnable_isas())
    EXPECT_LT(testing::relative_error(p.run(x, isa), want), 2e-6) << name(isa);
}

// Experts: rows sorted by group, each group's panels of its own, some groups without rows.
TEST_P(Formats, AGroupsRowsAreThoseOfItsOwnProduct) {
  const int64_t in = width_for(GetParam()), out = 70;
  const std::vector<int32_t> counts{1, 0, 14, 5};
  const Tensor x = random_tensor({10, 2, in}, 3, DType::kF32);
  for (const Compute compute : {Compute::kExact, Compute::kFast}) {
    std::vector<Packed> groups;
    for (size_t g = 0; g < counts.size(); ++g)
      groups.emplace_back(out, in, GetParam(), compute, static_cast<unsigned>(g));
    const int64_t panels = panels_of(out), bytes = panel_bytes(GetParam(), in);
    PackedWeight all{{{GetParam(), out, make_tensor(testing::allocator(), {4 * panels, bytes}, DType::kU8)}},
                     in,
                     compute,
                     4};
    for (size_t g = 0; g < groups.size(); ++g) {
      const Tensor& one = groups[g].packed.segments[0].data;
      std::memcpy(all.segments[0].data.data<std::byte>() + g * one.bytes(), one.raw(), one.bytes());
    }
    for (const Isa isa : runnable_isas()) {
      const Team team(2);
      EagerRecorder recorder(testing::allocator(), team, isa);
      Context context{recorder, nullptr};
      const Tensor y = packed_grouped(context, x, testing::int_tensor(counts), all);
      int64_t first = 0;
      for (size_t g = 0; g < groups.size(); first += counts[g++]) {
        if (counts[g] == 0) continue;
        const Tensor rows = x.reshape({20, in}).rows(first, counts[g]);
        const Tensor want = packed_linear(context, rows, groups[g].packed, {});
        EXPECT_EQ(std::memcmp(want.raw(), y.reshape({20, out}).rows(first, counts[g]).raw(), want.bytes()), 0)
            << name(isa) << " group " << g;
      }
    }
  }
}

TEST_P(Formats, ARowIsTheSameAloneAndInAnyBatch) {
  const int64_t in = width_for(GetParam());
  const Tensor x = random_tensor({217, in}, 3, DType::kF32);
  with_outliers(x.rows(0, 60));
  for (const Compute compute : {Compute::kExact, Compute::kFast}) {
    const Packed p(70, in, GetParam(), compute);
    for (const Isa isa : runnable_isas()) {
      if (isa == Isa::kScalar && compute == Compute::kFast && !integer(GetParam())) continue;
      const Tensor all = p.run(x, isa), one_thread = p.run(x.rows(0, 13), isa, 1);
      for (int64_t row : {0, 11, 12, 200, 216}) {
        const Tensor alone = p.run(x.rows(row, 1), isa);
        for (int64_t j = 0; j < 70; ++j) {
          ASSERT_EQ(alone.data<float>()[j], all.data<float>()[row * 70 + j]) << name(isa) << " row " << row;
          if (row >= 13) continue;
          ASSERT_EQ(one_thread.data<float>()[row * 70 + j], all.data<float>()[row * 70 + j]);
        }
      }
    }
  }
}

TEST_P(Formats, RowsOfATableAreTheSameInEverySet) {
  const int64_t in = width_for(GetParam());
  const Packed p(75, in, GetParam());
  const Team team(1);
  for (const Isa isa : runnable_isas()) {
    EagerRecorder recorder(testing::allocator(), team, isa);
    Context context{recorder, nullptr};
    const Tensor y = packed_rows(context, testing::int_tensor({74, 0, -3}), p.packed);
    for (int64_t k = 0; k < in; ++k) {
      ASSERT_EQ(testing::get(y, k), testing::get(p.weight, 74 * in + k)) << name(isa);
      ASSERT_EQ(testing::get(y, 2 * in + k), testing::get(p.weight, k));
    }
  }
}

// fast_formats.cc's table lets a format in.
TEST_P(Formats, FastIsRoundedWhereItsPerplexityAllows) {
  const int64_t in = width_for(GetParam());
  const Tensor x = random_tensor({3, in}, 3, DType::kF32);
  const auto run = [&](Compute compute) { return Packed(40, in, GetParam(), compute).run(x, Isa::kScalar); };
  const Compute used = compute_for(GetParam(), Compute::kFast);
  const Tensor fast = run(Compute::kFast), want = run(used);
  for (int64_t i = 0; i < 3 * 40; ++i) ASSERT_EQ(fast.data<float>()[i], want.data<float>()[i]);
  EXPECT_EQ(used, integer(GetParam()) && fast_is_near(GetParam()) ? Compute::kInt8
                  : GetParam() == Packing::kBF16                  ? Compute::kBF16
                                                                  : Compute::kExact);
}

INSTANTIATE_TEST_SUITE_P(PackedLinear, Formats, ::testing::ValuesIn(kAll),
                         [](const auto& test) { return std::string(op::info(test.param).name); });

TEST(PackedLinear, RoundedActivationsOfBF16) {
  const Tensor x = random_tensor({15, 581}, 3, DType::kF32);
  const Packed p(75, 581, Packing::kBF16, Compute::kBF16);
  const Tensor want = plain(p, testing::converted(testing::converted(x, DType::kBF16), DType::kF32));
  for (const Isa isa : runnable_isas())
    EXPECT_LT(testing::relative_error(p.run(x, isa), want), isa == Isa::kAvx512Bf16 ? 2e-6 : 1e-2)
        << name(isa);
}

TEST(PackedLinear, QuantisesWithinHalfAStep) {
  const Tensor values = random_tensor({3, 200}, 7, DType::kF32);
  for (const auto& [packing, step] :
       {std::pair{Packing::kInt8, 1.0 / 127}, {Packing::kInt4, 1.0 / 8}, {Packing::kQ4_0, 1.0 / 8}}) {
    const int64_t in = packing == Packing::kQ4_0 ? 192 : 200;
    const Tensor data = make_tensor(testing::allocator(), packed_shape(packing, 3, in), DType::kU8);
    for (int64_t row = 0; row < 3; ++row)
      pack_row(data, packing, row, {values.data<float>() + row * 200, static_cast<size_t>(in)});
    const Team team(1);
    EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
    Context context{recorder, nullptr};
    const Tensor y =
        packed_rows(context, testing::int_tensor({0, 1, 2}), {{{packing, 3, data}}, in, Compute::kExact});
    for (int64_t row = 0; row < 3; ++row) {
      double error = 0, largest = 0, power = 0;
      for (int64_t k = 0; k < in; ++k) {
        const double x = testing::get(values, row * 200 + k), d = x - testing::get(y, row * in + k);
        error += d * d, power += x * x, largest = std::max(largest, std::fabs(x));
      }
      EXPECT_LT(std::sqrt(error / static_cast<double>(in)), 0.4 * step * largest) << info(packing).name;
      EXPECT_LT(error, 0.02 * power);
    }
  }
}

TEST(PackedLinear, SegmentsAreColumnsOfOneResult) {
  const Tensor x = random_tensor({5, 256}, 3, DType::kF32);
  const Packed a(40, 256, Packing::kQ4_K), b(20, 256, Packing::kQ6_K);
  const PackedWeight both{{a.packed.segments[0], b.packed.segments[0]}, 256, Compute::kExact};
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, machine_isa());
  Context context{recorder, nullptr};
  const Tensor y = packed_linear(context, x, both, {}), ya = packed_linear(context, x, a.packed, {}),
               yb = packed_linear(context, x, b.packed, {});
  for (int64_t i = 0; i < 5; ++i)
    for (int64_t j = 0; j < 60; ++j)
      ASSERT_EQ(testing::get(y, i * 60 + j),
                j < 40 ? testing::get(ya, i * 40 + j) : testing::get(yb, i * 20 + j - 40));
}

TEST(PackedLinear, RefusesAnotherShape) {
  const Packed p(75, 10, Packing::kF32);
  EXPECT_THROW(p.run(random_tensor({2, 11}, 1, DType::kF32), Isa::kScalar), Error);
  EXPECT_THROW(parse_packing("Q3_K"), Error);
}

}  // namespace
}  // namespace flagscale::op
