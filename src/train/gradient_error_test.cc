// Gradients in bf16 beside PyTorch's in bf16, each as far as it is from PyTorch's in fp64
// (tests/golden/train/gradients).
#include <gtest/gtest.h>

#include <cmath>

#include "io/weights.h"
#include "train/parity_test_support.h"

namespace flagscale::train {
namespace {

using testing::config_of;
using testing::json_of;
using testing::kGolden;

// Sums of squares of what a gradient is off by, and of the exact one.
struct Apart {
  double difference = 0, norm = 0;
  void add(double got, double want) { difference += (got - want) * (got - want), norm += want * want; }
  double relative() const { return std::sqrt(difference / norm); }
};

// The rule: the error of all gradients together is at most PyTorch's, and each tensor's at most 1.25 times
// its own there. Rounding falls as it falls, and a norm's tensor has 32 to 64 numbers.
constexpr double kSlack = 1.25;

void expect_no_further_than_pytorch(const std::string& model, DeviceKind device) {
  SCOPED_TRACE(model);
  const auto pytorch = json_of("train/gradients/errors.json")[model];
  const auto exact = io::open_weights(kGolden + "train/gradients/" + model + ".safetensors");
  StepOptions options = testing::options_for(DType::kBF16, 4, 32);
  options.device = device;
  TrainStep step(config_of(model), options);
  const auto allocator = make_allocator(device);
  step.allocate(*allocator);
  step.load(*io::open_weights(kGolden + "model/" + model));
  testing::fill(step.inputs(), json_of("train/tokens.json")[0], 0, 32);
  step.micro_batch(4, true, 1);
  Apart all;
  size_t compared = 0;
  for (const TrainStep::State& state : step.states(true)) {
    const std::vector<float> want = exact->read_f32(state.name);
    ASSERT_EQ(static_cast<int64_t>(want.size()), state.size) << state.name;
    const auto* got = state.grad.data<float>();
    Apart one;
    for (size_t i = 0; i < want.size(); ++i)
      for (Apart* of : {&one, &all}) of->add(static_cast<double>(got[i]), static_cast<double>(want[i]));
    EXPECT_LE(one.relative(), kSlack * pytorch[state.name].get<double>()) << state.name;
    ++compared;
  }
  EXPECT_EQ(compared + 1, pytorch.size());  // and "all"
  EXPECT_LE(all.relative(), pytorch["all"].get<double>());
  EXPECT_GT(all.relative(), 1e-3) << "computed in fp32";
}

TEST(GradientError, InBf16IsNoLargerThanPyTorchs) {
  for (const char* model : {"llama3", "qwen3_tied"}) expect_no_further_than_pytorch(model, DeviceKind::kCpu);
}

TEST(GradientError, InBf16OnAGpuIsNoLargerThanPyTorchs) {
  FLAGSCALE_NEED_GPU();
  for (const char* model : {"llama3", "qwen3_tied"}) expect_no_further_than_pytorch(model, DeviceKind::kCuda);
}

}  // namespace
}  // namespace flagscale::train
