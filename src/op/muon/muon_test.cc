#include "op/muon/muon.h"

#include "op/adamw/step_testing.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::random_tensor;
using testing::tensor_of;
using Matrix = std::vector<std::vector<double>>;

Matrix product(const Matrix& a, const Matrix& b) {
  Matrix out(a.size(), std::vector<double>(b[0].size()));
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t k = 0; k < b.size(); ++k)
      for (size_t j = 0; j < b[0].size(); ++j) out[i][j] += a[i][k] * b[k][j];
  return out;
}

Matrix transposed(const Matrix& a) {
  Matrix out(a[0].size(), std::vector<double>(a.size()));
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < a[0].size(); ++j) out[j][i] = a[i][j];
  return out;
}

// Always x x^T first: the associations differ, the result does not.
Matrix orthogonal(Matrix x, int steps) {
  for (int s = 0; s < steps; ++s) {
    const Matrix gram = product(x, transposed(x)), square = product(gram, gram);
    Matrix polynomial = gram;
    for (size_t i = 0; i < gram.size(); ++i)
      for (size_t j = 0; j < gram.size(); ++j)
        polynomial[i][j] = -4.7750 * gram[i][j] + 2.0315 * square[i][j];
    const Matrix moved = product(polynomial, x);
    for (size_t i = 0; i < x.size(); ++i)
      for (size_t j = 0; j < x[0].size(); ++j) x[i][j] = 3.4445 * x[i][j] + moved[i][j];
  }
  return x;
}

// type: of the products; bf16 rounds each of them.
void expect_formula(Isa isa, int64_t rows, int64_t columns, bool nesterov, DType type) {
  const double tolerance = type == DType::kF32 ? 2e-5 : 2e-2;
  const StepScalars step{1e-2f, 0.1f, 1, 1, 1.0f, 0};
  const Shape shape{rows, columns};
  const Tensor grad = random_tensor(shape, 1, DType::kF32), m = random_tensor(shape, 2, DType::kF32),
               m_before = random_tensor(shape, 2, DType::kF32), param = random_tensor(shape, 3, DType::kF32),
               before = random_tensor(shape, 3, DType::kF32),
               norm = make_tensor(testing::allocator(), {1}, DType::kF32);
  norm.data<float>()[0] = 4;
  const Team team(2);
  EagerRecorder recorder(testing::allocator(), team, isa);
  const Tensor direction = recorder.empty(shape, DType::kF32);
  recorder.launch(kMuonDirection, {m, grad, norm, direction, tensor_of(step), 0.9f, nesterov});
  const Tensor flat = orthogonalize(recorder, direction, 5, type);
  recorder.launch(kMuonApply, {param, flat, norm, {}, tensor_of(step), 2.5f, true});

  Matrix d(static_cast<size_t>(rows), std::vector<double>(static_cast<size_t>(columns)));
  double squares = 0;
  for (int64_t i = 0; i < rows * columns; ++i) {
    const double g = get(grad, i) / (4 + 1e-6), kept = 0.9 * get(m_before, i) + 0.1 * g;
    EXPECT_NEAR(get(m, i), kept, 1e-6);
    double& way = d[static_cast<size_t>(i / columns)][static_cast<size_t>(i % columns)];
    way = nesterov ? 0.1 * g + 0.9 * kept : kept;
    squares += way * way;
  }
  for (auto& row : d)
    for (double& v : row) v /= std::sqrt(squares);
  const Matrix want = orthogonal(d, 5);
  for (int64_t i = 0; i < rows * columns; ++i) {
    const double x = want[static_cast<size_t>(i / columns)][static_cast<size_t>(i % columns)];
    EXPECT_NEAR(get(flat, i), x, tolerance) << i;
    EXPECT_NEAR(get(param, i), get(before, i) - 1e-2 * (2.5 * x + 0.1 * get(before, i)), 0.1 * tolerance);
  }
}

FLAGSCALE_EVERY_SET(MuonSets);
TEST_P(MuonSets, MatchTheFormulaInDoubleWhateverTheShape) {
  for (const bool nesterov : {false, true})
    for (const DType type : {DType::kF32, DType::kBF16}) {
      expect_formula(GetParam(), 40, 70, nesterov, type);
      expect_formula(GetParam(), 70, 33, nesterov, type);
      expect_formula(GetParam(), 1, 19, nesterov, type);
    }
}

TEST_P(MuonSets, ASkippedUpdateKeepsTheMomentumAndNothingMoves) {
  StepScalars step{1e-2f, 0.1f, 1, 1, 1.0f, 1};
  for (const bool spike : {true, false}) {
    step.skip = spike;
    const Tensor grad = random_tensor({8, 9}, 1, DType::kF32), m = random_tensor({8, 9}, 2, DType::kF32),
                 m_before = random_tensor({8, 9}, 2, DType::kF32),
                 param = random_tensor({8, 9}, 3, DType::kF32),
                 before = random_tensor({8, 9}, 3, DType::kF32),
                 norm = make_tensor(testing::allocator(), {1}, DType::kF32);
    norm.data<float>()[0] = spike ? 1 : INFINITY;
    const Team team(2);
    EagerRecorder recorder(testing::allocator(), team, GetParam());
    const Tensor direction = recorder.empty({8, 9}, DType::kF32);
    recorder.launch(kMuonDirection, {m, grad, norm, direction, tensor_of(step), 0.9f, true});
    recorder.launch(kMuonApply,
                    {param, orthogonalize(recorder, direction, 5), norm, {}, tensor_of(step), 1.f, true});
    for (int64_t i = 0; i < 72; ++i) {
      EXPECT_EQ(get(m, i), get(m_before, i));
      EXPECT_EQ(get(param, i), get(before, i));
    }
  }
}

FLAGSCALE_TEST_SETS(MuonOnGpu, Isa::kCuda);
TEST_P(MuonOnGpu, WhatGoesItsOwnWayHasTheBitsOfTheCpu) {
  constexpr int64_t kSize = 10007;
  const Tensor scalars = tensor_of({1e-2f, 0.1f, 1, 1, 1.0f, 0}), norm = testing::one(4);
  for (const DType type : {DType::kF32, DType::kBF16})
    for (const int64_t first : {0, 3}) {  // read some at a time, and one by one
      const auto update = [&](Isa isa) {
        const auto random = [&](unsigned seed, DType dtype) {
          return random_tensor({first + kSize}, seed, dtype).rows(first, kSize);
        };
        const Tensor m = random(1, DType::kF32), grad = random(2, DType::kF32),
                     param = random(3, DType::kF32), x = random(4, type), y = random(5, type),
                     copy = random(6, DType::kBF16);
        const Team team(2);
        EagerRecorder recorder(testing::allocator(), team, isa);
        const Tensor direction = recorder.empty({kSize}, DType::kF32), sum = recorder.empty({kSize}, type);
        recorder.launch(kMuonDirection, {m, grad, norm, direction, scalars, 0.9f, true});
        recorder.launch(kMuonSum, {x, y, sum, 3.4445f, -4.775f});
        recorder.launch(kMuonApply, {param, x, norm, copy, scalars, 2.5f, true});
        return std::vector{m, sum, param, copy};
      };
      testing::expect_same_bits(update(Isa::kCuda), update(machine_isa()));
    }
}

}  // namespace
}  // namespace flagscale::op
