#pragma once
// Shared by the ops' tests: values against the scalar kernels in double, gradients against finite
// differences.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "kernel/eager.h"
#include "op/elementwise/elementwise.h"

namespace flagscale::op::testing {

using Function = std::function<Tensor(Context&, const std::vector<Tensor>&)>;

inline Allocator& allocator() {
  // Where this program has the GPU's kernels: memory that both address.
  static const auto shared = make_shared_allocator(choose_device("auto"));
  return *shared;
}

inline double get(const Tensor& t, int64_t i) {
  if (t.dtype() == DType::kF64) return t.data<double>()[i];
  if (t.dtype() == DType::kF32) return static_cast<double>(t.data<float>()[i]);
  return static_cast<double>(to_float(t.data<BF16>()[i]));
}

inline void set(const Tensor& t, int64_t i, double value) {
  if (t.dtype() == DType::kF64)
    t.data<double>()[i] = value;
  else if (t.dtype() == DType::kF32)
    t.data<float>()[i] = static_cast<float>(value);
  else
    t.data<BF16>()[i] = to_bf16(static_cast<float>(value));
}

inline Tensor random_tensor(const Shape& shape, unsigned seed, DType dtype = DType::kF64) {
  const Tensor t = make_tensor(allocator(), shape, dtype);
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < shape.numel(); ++i) set(t, i, normal(engine));
  return t;
}

inline Tensor converted(const Tensor& from, DType dtype) {
  const Tensor t = make_tensor(allocator(), from.shape(), dtype);
  for (int64_t i = 0; i < from.shape().numel(); ++i) set(t, i, get(from, i));
  return t;
}

inline Tensor int_tensor(const std::vector<int32_t>& values) {
  const Tensor t = make_tensor(allocator(), {static_cast<int64_t>(values.size())}, DType::kI32);
  std::copy(values.begin(), values.end(), t.data<int32_t>());
  return t;
}

struct Result {
  Tensor output;
  std::vector<Tensor> grads;
};

// Runs forward, and backward from a fixed random gradient of the output.
inline Result run(const Function& function, const std::vector<Tensor>& inputs, Isa isa, int threads = 2) {
  const Team team(threads);
  EagerRecorder recorder(allocator(), team, isa);
  Tape tape = make_tape();
  for (const Tensor& input : inputs) tape.require(input);
  Context context{recorder, &tape};
  Result result;
  result.output = function(context, inputs);
  tape.seed(result.output, converted(random_tensor(result.output.shape(), 99), result.output.dtype()));
  tape.backward(recorder);
  for (const Tensor& input : inputs) result.grads.push_back(tape.grad(input));
  return result;
}

// max |a - b| / max |b|
inline double relative_error(const Tensor& a, const Tensor& b) {
  double difference = 0, scale = 0;
  EXPECT_EQ(a.shape().str(), b.shape().str());
  for (int64_t i = 0; i < b.shape().numel(); ++i) {
    const double d = std::fabs(get(a, i) - get(b, i));
    difference = std::isnan(d) ? INFINITY : std::max(difference, d);
    scale = std::max(scale, std::fabs(get(b, i)));
  }
  return difference / std::max(scale, 1e-30);
}

// Gradients of sum(output * r) by central differences, for up to 200 elements of each fp64 input.
inline void expect_gradients(const Function& function, const std::vector<Tensor>& inputs,
                             double tolerance = 1e-6) {
  const Result exact = run(function, inputs, Isa::kScalar);
  const Tensor r = random_tensor(exact.output.shape(), 99);
  const auto objective = [&] {
    const Team team(1);
    EagerRecorder recorder(allocator(), team, Isa::kScalar);
    Context context{recorder, nullptr};
    const Tensor out = function(context, inputs);
    double sum = 0;
    for (int64_t i = 0; i < out.shape().numel(); ++i) sum += get(out, i) * get(r, i);
    return sum;
  };
  for (size_t k = 0; k < inputs.size(); ++k) {
    ASSERT_TRUE(exact.grads[k].defined()) << "input " << k << " has no gradient";
    const int64_t n = inputs[k].shape().numel(), step = std::max<int64_t>(1, n / 200);
    for (int64_t i = 0; i < n; i += step) {
      const double x = get(inputs[k], i), h = 1e-5;
      set(inputs[k], i, x + h);
      const double up = objective();
      set(inputs[k], i, x - h);
      const double down = objective();
      set(inputs[k], i, x);
      ASSERT_NEAR(get(exact.grads[k], i), (up - down) / (2 * h), tolerance * (1 + std::fabs(up - down) / h))
          << "input " << k << " element " << i;
    }
  }
}

// A test for each instruction set, GetParam(). Those of sets that the machine lacks are skipped, and say so.
class EverySet : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    std::vector<Isa> sets = runnable_isas();
    if (choose_device("auto") == DeviceKind::kCuda) sets.push_back(Isa::kCuda);
    if (std::find(sets.begin(), sets.end(), GetParam()) == sets.end())
      GTEST_SKIP() << "the " << name(GetParam()) << " kernels are not run: "
                   << (GetParam() == Isa::kCuda ? "this machine has no GPU, or this program no kernels for it"
                                                : "this machine lacks the instructions");
  }
};
#define FLAGSCALE_TEST_SETS(suite, ...)                                \
  class suite : public testing::EverySet {};                           \
  INSTANTIATE_TEST_SUITE_P(Set, suite, ::testing::Values(__VA_ARGS__), \
                           [](const auto& test) { return std::string(name(test.param)); })
#define FLAGSCALE_EVERY_CPU_SET(suite) \
  FLAGSCALE_TEST_SETS(suite, Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16)
#define FLAGSCALE_EVERY_SET(suite) \
  FLAGSCALE_TEST_SETS(suite, Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kCuda)

// Output and gradients of one instruction set, in fp32 and bf16, against the scalar kernels in double.
inline void expect_agrees(Isa isa, const Function& function, const std::vector<Tensor>& inputs,
                          double fp32 = 1e-5, double bf16 = 3e-2) {
  const Result exact = run(function, inputs, Isa::kScalar);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(flagscale::name(dtype));
    std::vector<Tensor> narrow;
    for (const Tensor& input : inputs) narrow.push_back(converted(input, dtype));
    const Result got = run(function, narrow, isa);
    const double tolerance = dtype == DType::kF32 ? fp32 : bf16;
    EXPECT_LT(relative_error(got.output, exact.output), tolerance);
    for (size_t k = 0; k < inputs.size(); ++k)
      EXPECT_LT(relative_error(got.grads[k], exact.grads[k]), tolerance) << "gradient " << k;
  }
}

// Gradients of two passes added up in leaves of this type: after the first, and after both.
inline std::vector<Tensor> leaf_sums(Isa isa, const Function& function, const std::vector<Tensor>& inputs,
                                     DType sums) {
  const Team team(2);
  EagerRecorder recorder(allocator(), team, isa);
  std::vector<Tensor> grads, result;
  for (const Tensor& input : inputs) grads.push_back(make_tensor(allocator(), input.shape(), sums));
  int64_t accumulate = 0;
  for (; accumulate < 2; ++accumulate) {
    Tape tape = make_tape();
    for (size_t i = 0; i < inputs.size(); ++i) tape.watch(inputs[i], grads[i], &accumulate);
    Context context{recorder, &tape};
    const Tensor output = function(context, inputs);
    tape.seed(output, converted(random_tensor(output.shape(), 99), output.dtype()));
    tape.backward(recorder);
    for (const Tensor& grad : grads) result.push_back(converted(grad, DType::kF32));
  }
  return result;
}

// Of weights' gradients held in bf16: each is the sum in fp32, rounded once, and a second pass adds to that.
inline void expect_rounded_sums(Isa isa, const Function& function, const std::vector<Tensor>& weights) {
  std::vector<Tensor> narrow;
  for (const Tensor& weight : weights) narrow.push_back(converted(weight, DType::kBF16));
  const auto exact = leaf_sums(isa, function, narrow, DType::kF32),
             rounded = leaf_sums(isa, function, narrow, DType::kBF16);
  for (size_t k = 0; k < weights.size(); ++k) {
    const Tensor &one = exact[k], &first = rounded[k], &both = rounded[weights.size() + k];
    double largest = 0;
    for (int64_t i = 0; i < one.shape().numel(); ++i) largest = std::max(largest, std::fabs(get(one, i)));
    ASSERT_GT(largest, 0);
    for (int64_t i = 0; i < one.shape().numel(); ++i) {
      const double sum = get(first, i) + get(one, i);  // half a unit of the last of 8 bits, and the fp32 sums
      ASSERT_NEAR(get(first, i), get(one, i), std::fabs(get(one, i)) / 256 + 1e-6 * largest) << k << " " << i;
      ASSERT_NEAR(get(both, i), sum, std::fabs(sum) / 256 + 1e-6 * largest) << k << " " << i;
    }
  }
}

}  // namespace flagscale::op::testing
