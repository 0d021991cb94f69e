// Training an adapter by the step: gradients and losses against PEFT (tests/golden/train/lora), of experts
// too; what a start at zero, dropout and the frozen base come to.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "train/parity_test_support.h"
#include "train/saving.h"

namespace flagscale::train {
namespace {

using testing::config_of;
using testing::expect_losses_and_norms;
using testing::fill;
using testing::History;
using testing::json_of;
using testing::kGolden;
using testing::options_for;
using testing::train;

// Adapters against PEFT: every gradient of the first batch, then twenty steps.
class LoraParity : public ::testing::TestWithParam<std::string> {
 protected:
  const std::string folder_ = kGolden + "train/lora/" + GetParam();
  std::unique_ptr<TrainStep> step(DType dtype, DeviceKind device, Allocator& allocator) const {
    StepOptions options = options_for(dtype, 4, 32);
    options.device = device;
    static const std::map<std::string, LoraSpec> kAdapters{
        {"llama3", {{"all-linear"}, 4, 8, 0, false, "kaiming", "zero"}},
        {"qwen2", {{"k_proj", "v_proj", "gate_proj"}, 5, 10, 0, false, "kaiming", "zero"}},
        {"qwen3_tied", {{"q_proj", "v_proj"}, 3, 6, 0, false, "kaiming", "zero"}}};
    options.lora = kAdapters.at(GetParam());
    auto step = std::make_unique<TrainStep>(config_of(GetParam()), options);
    planned_ = step->bytes();
    step->allocate(allocator);
    step->load(*io::open_weights(kGolden + "model/" + GetParam()));
    load_adapter(model::open_peft(folder_), folder_, *step);
    return step;
  }
  void expect_pefts_gradients(DeviceKind device) const;
  void expect_pefts_steps(DeviceKind device) const;
  mutable size_t planned_ = 0;
};

void LoraParity::expect_pefts_gradients(DeviceKind device) const {
  const auto tokens = json_of("train/tokens.json");
  const auto allocator = make_allocator(device);
  const auto step = this->step(DType::kF32, device, *allocator);
  for (size_t m = 0; m < 2; ++m) {
    fill(step->inputs(), tokens[0], m * 4, 32);
    step->micro_batch(4, m == 0, 2);
  }
  const auto want = io::open_weights(folder_ + "/gradients.safetensors");
  size_t compared = 0;
  for (const TrainStep::State& state : step->states(true)) {
    const std::vector<float> exact = want->read_f32(state.name);
    float difference = 0, largest = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      difference = std::max(difference, std::fabs(exact[i] - number(state.grad, i)));
      largest = std::max(largest, std::fabs(exact[i]));
    }
    EXPECT_LT(difference, 1e-4f * largest) << state.name;
    ++compared;
  }
  EXPECT_EQ(compared, want->tensors().size());
}

void LoraParity::expect_pefts_steps(DeviceKind device) const {
  const auto golden = json_of("train/lora/" + GetParam() + "/train.json"),
             tokens = json_of("train/tokens.json");
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(name(dtype));
    const auto allocator = make_allocator(device);
    const auto step = this->step(dtype, device, *allocator);
    const History got = train(*step, golden["settings"], tokens, 20);
    EXPECT_EQ(allocator->peak(), planned_);
    const auto& want = golden[dtype == DType::kF32 ? "fp32" : "bf16"];
    expect_losses_and_norms(got, want, dtype);
    if (dtype != DType::kF32) continue;
    for (const auto& state : got.states) {
      double squares = 0;
      for (int64_t i = 0; i < state.size; ++i)
        squares += std::pow(static_cast<double>(number(state.weight, i)), 2);
      EXPECT_NEAR(std::sqrt(squares) / want["final"][state.name]["norm"].get<double>(), 1, 1e-4)
          << state.name;
    }
  }
}

TEST_P(LoraParity, EveryGradientEqualsPefts) { expect_pefts_gradients(DeviceKind::kCpu); }
TEST_P(LoraParity, TwentyStepsEqualPefts) { expect_pefts_steps(DeviceKind::kCpu); }

TEST_P(LoraParity, EveryGradientOnAGpuEqualsPefts) {
  FLAGSCALE_NEED_GPU();
  expect_pefts_gradients(DeviceKind::kCuda);
}

TEST_P(LoraParity, TwentyStepsOnAGpuEqualPefts) {
  FLAGSCALE_NEED_GPU();
  expect_pefts_steps(DeviceKind::kCuda);
}

INSTANTIATE_TEST_SUITE_P(Models, LoraParity, ::testing::Values("llama3", "qwen2", "qwen3_tied"),
                         [](const auto& test) { return test.param; });

// Adapters of every expert: PEFT's loss and gradient (make_expert_lora.py).
class ExpertLoraParity : public ::testing::TestWithParam<std::string> {};

void expect_pefts_expert_gradients(const std::string& model, DeviceKind device) {
  const std::string folder = kGolden + "train/lora/experts/" + model;
  const auto want = io::open_weights(folder + "/oracle.safetensors");
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(name(dtype));
    StepOptions options = options_for(dtype, 8, 32);
    std::vector<std::string> targets{"q_proj", "gate_proj", "up_proj", "down_proj"};
    if (model == "mixtral") targets = {"q_proj", "w1", "w2", "w3"};
    options.lora = LoraSpec{targets, 3, 6, 0, false, "kaiming", "zero"};
    options.device = device;
    const auto allocator = make_allocator(device);
    TrainStep step(config_of(model), options);
    step.allocate(*allocator);
    step.load(*io::open_weights(kGolden + "model/" + model));
    load_adapter(model::open_peft(folder), folder, step);
    fill(step.inputs(), json_of("train/tokens.json")[0], 0, 32);
    EXPECT_NEAR(step.micro_batch(8, true, 1).loss / (8 * 32) / static_cast<double>(want->read_f32("loss")[0]),
                1, dtype == DType::kF32 ? 1e-6 : 5e-3);
    size_t compared = 3;  // input_ids, logits, loss
    for (const TrainStep::State& state : step.states(true)) {
      const std::vector<float> exact = want->read_f32(state.name);
      float difference = 0, largest = 0;
      for (size_t i = 0; i < exact.size(); ++i) {
        difference = std::max(difference, std::fabs(exact[i] - number(state.grad, i)));
        largest = std::max(largest, std::fabs(exact[i]));
      }
      if (dtype == DType::kF32) {  // rounded, some tokens go to other experts
        EXPECT_LE(difference, 1e-4f * largest) << state.name;
      }
      ++compared;
    }
    EXPECT_EQ(compared, want->tensors().size());
  }
}

TEST_P(ExpertLoraParity, LossAndEveryGradientEqualPefts) {
  expect_pefts_expert_gradients(GetParam(), DeviceKind::kCpu);
}

TEST_P(ExpertLoraParity, LossAndEveryGradientOnAGpuEqualPefts) {
  FLAGSCALE_NEED_GPU();
  expect_pefts_expert_gradients(GetParam(), DeviceKind::kCuda);
}

INSTANTIATE_TEST_SUITE_P(Models, ExpertLoraParity, ::testing::Values("mixtral", "qwen3_moe", "qwen2_moe"),
                         [](const auto& test) { return test.param; });

TEST(LoraTraining, MegatronsNamesReachExperts) {
  StepOptions options = options_for(DType::kF32, 4, 32);
  options.lora = LoraSpec{{"linear_fc1", "linear_fc2"}, 4, 8, 0, false, "kaiming", "zero"};
  const TrainStep step(config_of("mixtral"), options);
  const model::DecoderConfig c = config_of("mixtral");
  const int64_t expert = 4 * (c.hidden_size + 2 * c.moe.size) + 4 * (c.moe.size + c.hidden_size);
  EXPECT_EQ(step.trained_parameters(), c.num_layers * c.moe.experts * expert);
}

// One micro-batch's loss and gradient norm with an adapter.
struct LoraRun {
  double loss = 0, evaluated = 0, norm = 0;
};
LoraRun run_lora(const StepOptions& options, int micro_batches = 1, const std::string& model = "llama3") {
  const auto allocator = make_allocator(options.device);
  TrainStep step(config_of(model), options);
  step.allocate(*allocator);
  step.load(*io::open_weights(kGolden + "model/" + model));
  step.initialise(7);
  const auto tokens = json_of("train/tokens.json");
  LoraRun run;
  for (int m = 0; m < micro_batches; ++m) {
    const int64_t first = m * options.micro_batch_size;
    fill(step.inputs(), tokens[0], static_cast<size_t>(first), 32);
    run.evaluated += step.evaluate(options.micro_batch_size).loss;
    run.loss += step.micro_batch(options.micro_batch_size, m == 0, micro_batches, first).loss;
  }
  run.norm = static_cast<double>(step.gradient_norm());
  return run;
}

TEST(LoraTraining, AZeroStartIsTheIdentityWhateverTheTargets) {
  StepOptions plain = options_for(DType::kF32, 4, 32);
  const double without = [&] {
    const auto allocator = make_cpu_allocator();
    TrainStep step(config_of("llama3"), plain);
    step.allocate(*allocator);
    step.load(*io::open_weights(kGolden + "model/llama3"));
    fill(step.inputs(), json_of("train/tokens.json")[0], 0, 32);
    return step.evaluate(4).loss;
  }();
  for (const std::vector<std::string>& targets :
       std::vector<std::vector<std::string>>{{"linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"},
                                             {"all-linear"},
                                             {"*layers.1.*linear_fc*", "layers.0.self_attn.q_proj"}}) {
    plain.lora = LoraSpec{targets, 4, 8, 0, false, "gaussian", "zero"};
    const LoraRun run = run_lora(plain);
    EXPECT_EQ(run.evaluated, without) << "not to the bit";
    EXPECT_GT(run.norm, 0);
    plain.lora->out_init = "gaussian";
    EXPECT_NE(run_lora(plain).evaluated, without);
  }
}

TEST(LoraTraining, DropoutOnAGpuDrawsTheSame) {
  FLAGSCALE_NEED_GPU();
  for (const char* model : {"llama3", "mixtral"})
    for (const bool after : {false, true}) {
      StepOptions options = options_for(DType::kF32, 4, 32);
      options.lora = LoraSpec{{"all-linear"}, 4, 8, 0.5, after, "gaussian", "gaussian"};
      const LoraRun here = run_lora(options, 1, model);
      options.device = DeviceKind::kCuda;
      const LoraRun there = run_lora(options, 1, model);
      EXPECT_NEAR(there.loss / here.loss, 1, 1e-5) << model;
      EXPECT_NEAR(there.norm / here.norm, 1, 1e-4) << model;
    }
}

class LoraDropout : public ::testing::TestWithParam<std::string> {};

TEST_P(LoraDropout, ActsInTrainingAloneAndDependsOnNeitherMicroBatchesNorRecompute) {
  for (const bool after : {false, true}) {
    StepOptions options = options_for(DType::kF32, 4, 32);
    options.lora = LoraSpec{{"all-linear"}, 4, 8, 0.5, after, "gaussian", "gaussian"};
    const LoraRun whole = run_lora(options, 1, GetParam());
    EXPECT_GT(std::fabs(whole.loss - whole.evaluated), 1e-3);
    StepOptions split = options;
    split.micro_batch_size = 2;
    const LoraRun halves = run_lora(split, 2, GetParam());
    EXPECT_NEAR(halves.loss / whole.loss, 1, 1e-6);
    EXPECT_NEAR(halves.norm / whole.norm, 1, 1e-5);
    StepOptions again = options;
    again.recompute = {model::Recompute::kFull, -1};
    const LoraRun recomputed = run_lora(again, 1, GetParam());
    EXPECT_EQ(recomputed.loss, whole.loss);
    EXPECT_EQ(recomputed.norm, whole.norm);
    options.seed = 99;
    EXPECT_NE(run_lora(options, 1, GetParam()).loss, whole.loss);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LoraDropout, ::testing::Values("llama3", "mixtral", "qwen2_moe"),
                         [](const auto& test) { return test.param; });

TEST(LoraTraining, TheBaseHasNeitherGradientsNorMoments) {
  model::DecoderConfig c;
  c.num_layers = 30, c.hidden_size = 576, c.num_heads = 9, c.num_kv_heads = 3, c.head_dim = 64;
  c.intermediate_size = 1536, c.vocab_size = 49152, c.max_positions = 512, c.rope.head_dim = 64;
  c.tie_embeddings = true;
  StepOptions options = options_for(DType::kF32, 1, 512);
  const MemoryUse full = TrainStep(c, options).memory();
  options.lora = LoraSpec{{"all-linear"}, 8, 16, 0, false, "kaiming", "zero"};
  const TrainStep step(c, options);
  const MemoryUse lora = step.memory();
  const auto adapter = static_cast<size_t>(step.trained_parameters()) * sizeof(float);
  EXPECT_NEAR(static_cast<double>(lora.gradients), static_cast<double>(adapter), 1e5);
  EXPECT_NEAR(static_cast<double>(lora.optimizer), 2.0 * static_cast<double>(adapter), 1e5);
  EXPECT_LT(lora.activations, full.activations * 11 / 10);
  EXPECT_NEAR(static_cast<double>(lora.frozen), 134515008 * 4.0, 1e5);
  options.compute = DType::kBF16;
  EXPECT_NEAR(static_cast<double>(TrainStep(c, options).memory().frozen), 134515008 * 2.0, 1e5);
}

TEST(LoraTraining, TargetsThatAreNotThereOrTwiceAreNamed) {
  const auto refuses = [](const std::vector<std::string>& targets, const std::string& word) {
    StepOptions options = options_for(DType::kF32, 4, 32);
    options.lora = LoraSpec{targets, 4, 8, 0, false, "kaiming", "zero"};
    try {
      const TrainStep step(config_of("llama3"), options);
      FAIL() << "nothing was refused";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  };
  refuses({"q_proj", "query"}, "'query' is none of the model's products: down_proj");
  refuses({"linear_qkv", "v_proj"}, "model.layers.0.self_attn.v_proj twice");
}

}  // namespace
}  // namespace flagscale::train
