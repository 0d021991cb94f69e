// A step whose size takes the ways that large models take on a GPU, beside the CPU's: attention with heads of
// 128 by warpgroups, its backward pass in one walk, and products that are timed; two packed sequences whose
// lengths are no multiples of a tile.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "device/cuda/cuda.h"
#include "train/parity_test_support.h"

namespace flagscale::train {
namespace {

constexpr int32_t kPackedTokens = 2304, kSecondSequence = 1301;

model::DecoderConfig large_model() {
  model::DecoderConfig c;
  c.num_layers = 2, c.hidden_size = 1024, c.num_heads = 8, c.num_kv_heads = 4, c.head_dim = 128;
  c.intermediate_size = 2048, c.vocab_size = 512, c.max_positions = kPackedTokens, c.rope.head_dim = 128;
  return c;
}

struct LargeStep {
  double loss = 0;
  std::vector<std::string> names;
  std::vector<std::vector<float>> gradients;
};

LargeStep large_step(DeviceKind device, DType compute, std::optional<Fp8Spec> fp8 = {}) {
  StepOptions o;
  o.device = device, o.compute = compute, o.fp8 = fp8;
  o.sequence_length = kPackedTokens, o.cu_seqlens_capacity = 3, o.evaluation = false;
  const auto allocator = make_allocator(device);
  TrainStep step(large_model(), o);
  step.allocate(*allocator);
  step.initialise(5);
  const data::MicroBatch batch = step.inputs();
  for (int32_t i = 0; i < kPackedTokens; ++i) {
    const auto at = static_cast<size_t>(i);
    batch.tokens[at] = i * 7919 % 509, batch.labels[at] = (i + 1) * 7919 % 509, batch.loss_mask[at] = 1;
    batch.position_ids[at] = i < kSecondSequence ? i : i - kSecondSequence;
  }
  batch.cu_seqlens[0] = 0, batch.cu_seqlens[1] = kSecondSequence, batch.cu_seqlens[2] = kPackedTokens;
  LargeStep result;
  result.loss = step.micro_batch(2, true, 1).loss / kPackedTokens;
  for (const TrainStep::State& state : step.states(true)) {
    const auto* from = state.grad.data<float>();
    result.names.push_back(state.name);
    result.gradients.emplace_back(from, from + state.size);
  }
  return result;
}

struct ApartOf {
  double difference = 0, size = 0;
  void add(const std::vector<float>& got, const std::vector<float>& want) {
    for (size_t i = 0; i < want.size(); ++i) {
      const double x = static_cast<double>(got[i]), y = static_cast<double>(want[i]);
      difference += (x - y) * (x - y), size += y * y;
    }
  }
  double relative() const { return std::sqrt(difference / size); }
};

// Relative distance in the square mean of each tensor's gradient, then of all together.
std::vector<double> apart(const LargeStep& got, const LargeStep& want) {
  std::vector<double> each;
  ApartOf all;
  for (size_t i = 0; i < want.gradients.size(); ++i) {
    ApartOf one;
    for (ApartOf* of : {&one, &all}) of->add(got.gradients[i], want.gradients[i]);
    each.push_back(one.relative());
  }
  each.push_back(all.relative());
  return each;
}

// The rule in bf16 is that of gradient_error_test.cc, with the CPU's step in fp32 for the exact one and its
// step in bf16 for the other program: a tensor's gradient is at most a quarter further from the exact one
// than the CPU's, all together a twentieth. In fp8, whose scalar products would take minutes, it is that of
// fp8_step_test.cc for numbers of e5m2.
TEST(LargeStep, OnAGpuIsTheCpus) {
  FLAGSCALE_NEED_GPU();
  const LargeStep exact = large_step(DeviceKind::kCpu, DType::kF32),
                  rounded = large_step(DeviceKind::kCpu, DType::kBF16),
                  fp32 = large_step(DeviceKind::kCuda, DType::kF32),
                  bf16 = large_step(DeviceKind::kCuda, DType::kBF16);
  EXPECT_NEAR(fp32.loss / exact.loss, 1, 1e-6);
  EXPECT_NEAR(bf16.loss / exact.loss, 1, 1e-3);
  const std::vector<double> in_fp32 = apart(fp32, exact), in_bf16 = apart(bf16, exact),
                            on_cpu = apart(rounded, exact);
  for (size_t i = 0; i < on_cpu.size(); ++i) {
    const bool all = i == exact.names.size();
    const std::string name = all ? "all" : exact.names[i];
    RecordProperty(name, fmt::format("{:.2e}, {:.5f} beside {:.5f}", in_fp32[i], in_bf16[i], on_cpu[i]));
    EXPECT_LT(in_fp32[i], 1e-5) << name;
    EXPECT_LE(in_bf16[i], (all ? 1.05 : 1.25) * on_cpu[i]) << name;
    EXPECT_GT(in_bf16[i], 1e-3) << name << ": computed in fp32";
  }
  if (!cuda::multiplies_fp8()) return;
  for (const op::Fp8Recipe recipe : {op::Fp8Recipe::kTensorwise, op::Fp8Recipe::kBlockwise}) {
    const LargeStep fp8 = large_step(DeviceKind::kCuda, DType::kBF16, Fp8Spec{{recipe, Fp8::kE5M2}, 0, 0});
    const double all = apart(fp8, exact).back();
    RecordProperty(op::name(recipe), fmt::format("{:.5f}", all));
    EXPECT_NEAR(fp8.loss / exact.loss, 1, 1e-2) << op::name(recipe);
    EXPECT_LT(all, 0.12) << op::name(recipe);
    EXPECT_GT(all, 2 * on_cpu.back()) << op::name(recipe) << ": computed in bf16";
  }
}

}  // namespace
}  // namespace flagscale::train
