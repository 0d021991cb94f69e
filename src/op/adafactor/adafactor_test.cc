#include "op/adafactor/adafactor.h"

#include "op/adamw/step_testing.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::random_tensor;
using testing::tensor_of;

constexpr double kWeightDecay = 0.1, kRate = 1e-2, kClip = 1.0 / (4 + 1e-6);

double rms(const std::vector<double>& values) {
  double squares = 0;
  for (const double v : values) squares += v * v;
  return std::sqrt(squares / static_cast<double>(values.size()));
}

Tensor positive(const Shape& shape, unsigned seed) {
  const Tensor t = random_tensor(shape, seed, DType::kF32);
  for (int64_t i = 0; i < shape.numel(); ++i) t.data<float>()[i] = std::fabs(t.data<float>()[i]) + 0.1f;
  return t;
}

void expect_formula(Isa isa, int64_t rows, int64_t columns, bool scale, int threads) {
  const bool matrix = columns > 0;
  const Shape shape = matrix ? Shape{rows, columns} : Shape{rows};
  const StepScalars step{static_cast<float>(kRate), static_cast<float>(kWeightDecay), 1, 1, 1.0f, 0, 3};
  const Tensor grad = random_tensor(shape, 1, DType::kF32), param = random_tensor(shape, 2, DType::kF32),
               before = random_tensor(shape, 2, DType::kF32), row = positive({rows}, 3),
               row_before = positive({rows}, 3), column = positive({matrix ? columns : 1}, 4),
               column_before = positive({matrix ? columns : 1}, 4), norm = testing::one(4),
               scalars = tensor_of(step);
  const Team team(threads);
  AdafactorArgs args{param, row, {}, grad, norm, {}, scalars, -0.8f, 0.05f, scale, true};
  if (matrix) args.column = column;
  EagerRecorder(testing::allocator(), team, isa).launch(kAdafactor, args);

  const double beta = 1 - std::pow(3, -0.8);
  const int64_t n = matrix ? columns : 1;
  std::vector<double> rows_now(static_cast<size_t>(rows)), columns_now(static_cast<size_t>(n)), u, weights;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < n; ++c) {
      const double square = std::pow(get(grad, r * n + c) * kClip, 2) + 1e-30;
      rows_now[static_cast<size_t>(r)] += square / static_cast<double>(n);
      columns_now[static_cast<size_t>(c)] += square / static_cast<double>(rows);
    }
  double mean = 0;
  for (int64_t r = 0; r < rows; ++r) {
    double& v = rows_now[static_cast<size_t>(r)];
    v = beta * get(row_before, r) + (1 - beta) * v;
    EXPECT_NEAR(get(row, r) / v, 1, 1e-5) << "row " << r;
    mean += v / static_cast<double>(rows);
  }
  for (int64_t c = 0; matrix && c < columns; ++c) {
    double& v = columns_now[static_cast<size_t>(c)];
    v = beta * get(column_before, c) + (1 - beta) * v;
    EXPECT_NEAR(get(column, c) / v, 1, 1e-5) << "column " << c;
  }
  for (int64_t i = 0; i < rows * n; ++i) {
    const double r = rows_now[static_cast<size_t>(i / n)];
    const double v = matrix ? r / mean * columns_now[static_cast<size_t>(i % n)] : r;
    u.push_back(get(grad, i) * kClip / std::sqrt(v));
    weights.push_back(get(before, i));
  }
  const double excess = std::max(1.0, rms(u) / 0.05), rate = scale ? kRate * rms(weights) : kRate;
  for (int64_t i = 0; i < rows * n; ++i) {
    const double old = weights[static_cast<size_t>(i)];
    EXPECT_NEAR(get(param, i), old - rate * (u[static_cast<size_t>(i)] / excess + kWeightDecay * old), 1e-6)
        << i;
  }
}

FLAGSCALE_EVERY_SET(AdafactorSets);
TEST_P(AdafactorSets, MatchTheFormulaInDouble) {
  for (const bool scale : {false, true}) {
    expect_formula(GetParam(), 70, 37, scale, 2);
    expect_formula(GetParam(), 300, 601, scale, 2);
    expect_formula(GetParam(), 1, 5, scale, 2);
    expect_formula(GetParam(), 5003, 0, scale, 2);  // a vector
  }
}

}  // namespace
}  // namespace flagscale::op
