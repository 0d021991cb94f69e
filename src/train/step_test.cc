// Training by the step: losses, norms and weights against PyTorch (tests/golden/train/), planned against
// measured memory, and what one plan serves without a second trace.
#include "train/step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "data/indexed_writer.h"
#include "io/gguf_weights.h"
#include "op/attention/attention.h"
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

class TrainParity : public ::testing::TestWithParam<std::string> {};

void expect_pytorchs_steps(const std::string& model, DeviceKind device) {
  const auto golden = json_of("train/" + model + ".json"), tokens = json_of("train/tokens.json");
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(name(dtype));
    const auto allocator = make_allocator(device);
    StepOptions options = options_for(dtype, 4, 32);
    options.device = device;
    TrainStep step(config_of(model), options);
    const size_t planned = step.bytes();
    step.allocate(*allocator);
    step.load(*io::open_weights(kGolden + "model/" + model));
    const History got = train(step, golden["settings"], tokens, 20);
    EXPECT_EQ(allocator->peak(), planned);
    const auto& want = golden[dtype == DType::kF32 ? "fp32" : "bf16"];
    expect_losses_and_norms(got, want, dtype);
    if (dtype != DType::kF32) continue;
    for (const auto& state : got.states) {
      double squares = 0;
      for (int64_t i = 0; i < state.size; ++i)
        squares += std::pow(static_cast<double>(number(state.weight, i)), 2);
      // Softmax cancels the gradient of k's bias but for what rotation leaves: Adam makes steps of its
      // rounding.
      const double tolerance = state.name.ends_with("k_proj.bias") ? 1e-3 : 2e-5;
      EXPECT_NEAR(std::sqrt(squares) / want["final"][state.name]["norm"].get<double>(), 1, tolerance)
          << state.name;
    }
  }
}

TEST_P(TrainParity, TwentyStepsEqualPyTorchs) { expect_pytorchs_steps(GetParam(), DeviceKind::kCpu); }

TEST_P(TrainParity, TwentyStepsOnAGpuEqualPyTorchs) {
  FLAGSCALE_NEED_GPU();
  expect_pytorchs_steps(GetParam(), DeviceKind::kCuda);
}

INSTANTIATE_TEST_SUITE_P(Models, TrainParity,
                         ::testing::Values("llama3", "qwen2", "qwen3_tied", "qwen2_window"),
                         [](const auto& test) { return test.param; });

// A real pretrained model: the quickstart fetches it, FLAGSCALE_SMOLLM2 names it elsewhere.
TEST(TrainParity, TwentyStepsOfSmolLM2EqualPyTorchs) {
  const char* named = std::getenv("FLAGSCALE_SMOLLM2");
  const std::string file =
      named ? named : std::string(FLAGSCALE_SOURCE_DIR) + "/.deps/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::ifstream(file))
    GTEST_SKIP() << file << " is absent; run ./dev quickstart, or set FLAGSCALE_SMOLLM2";
  const auto golden = json_of("model/smollm2/train.json");
  auto options = options_for(DType::kF32, 2, 64);
  options.evaluation = false;
  auto config = model::parse_config(io::gguf_config_json(io::GgufFile(file), DType::kF32));
  config.max_positions = 64;
  TrainStep step(config, options);
  const auto allocator = make_cpu_allocator();
  step.allocate(*allocator);
  step.load(*io::open_weights(file));
  const History got = train(step, golden["settings"], golden["tokens"], 20);
  for (size_t i = 0; i < 20; ++i)
    EXPECT_NEAR(got.loss[i] / golden["loss"][i].get<double>(), 1, 1e-5) << "step " << i;
}

// The same four sequences as one micro-batch of four or four of one; with recompute of no, one or both
// layers.
TEST(TrainStep, MicroBatchesAndRecomputeChangeTheMemoryNotTheGradient) {
  const auto tokens = json_of("train/tokens.json");
  std::vector<double> norms, losses;
  std::vector<size_t> bytes;
  for (const int64_t micro : {4, 1})
    for (const model::RecomputeSpec recompute :
         {model::RecomputeSpec{}, model::RecomputeSpec{model::Recompute::kFull, 1},
          model::RecomputeSpec{model::Recompute::kFull, -1}}) {
      const auto allocator = make_cpu_allocator();
      auto options = options_for(DType::kF32, micro, 32);
      options.recompute = recompute;
      options.evaluation = false;
      TrainStep step(config_of("qwen3_tied"), options);
      step.allocate(*allocator);
      step.initialise(7);
      double loss = 0;
      for (int64_t m = 0; m < 4 / micro; ++m) {
        fill(step.inputs(), tokens[0], static_cast<size_t>(m * micro), 32);
        loss += step.micro_batch(micro, m == 0, 4 / micro).loss;
      }
      losses.push_back(loss);
      norms.push_back(static_cast<double>(step.gradient_norm()));
      bytes.push_back(step.memory().activations);
    }
  for (size_t i = 1; i < 6; ++i) {
    EXPECT_NEAR(losses[i] / losses[0], 1, 1e-6);
    EXPECT_NEAR(norms[i] / norms[0], 1, 1e-6);
  }
  for (const size_t i : {1, 2}) {  // to the bit
    EXPECT_EQ(losses[i], losses[0]);
    EXPECT_EQ(norms[i], norms[0]);
  }
  EXPECT_LE(bytes[1], bytes[0]);
  EXPECT_LT(bytes[2], bytes[0]);
  EXPECT_LT(bytes[3], bytes[0]);
}

// A dense model's, in graphs too from the second step on. In bf16 the sum that a layer ends with is rounded
// where it is kept.
TEST(TrainStep, RecomputedLayersOnAGpuHaveTheSameGradients) {
  FLAGSCALE_NEED_GPU();
  const auto golden = json_of("train/llama3.json"), tokens = json_of("train/tokens.json");
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(name(compute));
    std::vector<History> runs;
    std::vector<size_t> bytes;
    for (const model::RecomputeSpec recompute :
         {model::RecomputeSpec{}, model::RecomputeSpec{model::Recompute::kFull, 1},
          model::RecomputeSpec{model::Recompute::kFull, -1}}) {
      auto options = options_for(compute, 4, 32);
      options.device = DeviceKind::kCuda, options.recompute = recompute;
      TrainStep step(config_of("llama3"), options);
      const auto allocator = make_allocator(DeviceKind::kCuda);
      step.allocate(*allocator);
      step.initialise(7);
      runs.push_back(train(step, golden["settings"], tokens, 4));
      runs.back().states.clear();  // of this step
      bytes.push_back(step.memory().activations);
    }
    for (const size_t i : {1u, 2u}) {
      EXPECT_EQ(runs[i].loss[0], runs[0].loss[0]);
      for (size_t s = 0; s < 4; ++s) {
        EXPECT_NEAR(runs[i].loss[s] / runs[0].loss[s], 1, compute == DType::kF32 ? 1e-6 : 5e-3) << s;
        EXPECT_NEAR(runs[i].norm[s] / runs[0].norm[s], 1, compute == DType::kF32 ? 1e-5 : 2e-2) << s;
      }
    }
    EXPECT_LT(bytes[2], bytes[0]);
  }
}

// Micro-batches of unlike numbers of learnt tokens, whose gradient must be that of one of them all.
TEST(TrainStep, PerTokenLossIsThatOfOneLargeMicroBatch) {
  const auto tokens = json_of("train/tokens.json");
  std::vector<double> norms;
  for (const int64_t micro : {4, 2, 1}) {
    for (const bool per_token : {true, false}) {
      const auto allocator = make_cpu_allocator();
      TrainStep step(config_of("llama3"), options_for(DType::kF32, micro, 32));
      step.allocate(*allocator);
      step.initialise(7);
      for (int64_t m = 0; m < 4 / micro; ++m) {
        const data::MicroBatch inputs = step.inputs();
        fill(inputs, tokens[0], static_cast<size_t>(m * micro), 32);
        for (size_t i = 0; i < inputs.loss_mask.size(); ++i)  // sequence s learns its first 8 s + 1 tokens
          inputs.loss_mask[i] =
              static_cast<int64_t>(i % 32) <= 8 * (m * micro + static_cast<int64_t>(i / 32));
        step.micro_batch(micro, m == 0, 4 / micro, 0, per_token ? 1 + 9 + 17 + 25 : 0);
      }
      norms.push_back(static_cast<double>(step.gradient_norm()));
    }
  }
  for (const size_t i : {1u, 2u, 4u}) EXPECT_NEAR(norms[i] / norms[0], 1, 1e-6) << i;
  EXPECT_GT(std::fabs(norms[3] / norms[0] - 1), 1e-3) << "two of two by their own tokens";
  EXPECT_GT(std::fabs(norms[5] / norms[0] - 1), 1e-3) << "four of one by their own tokens";
}

// Megatron's rules: matrices normal with init_std, those back into the residual stream divided by sqrt(2
// layers), norms one, biases zero.
TEST(TrainStep, InitialWeightsFollowMegatron) {
  model::DecoderConfig c = config_of("qwen2");
  c.init_std = 0.05f, c.num_layers = 8, c.hidden_size = 64, c.intermediate_size = 96, c.vocab_size = 400;
  TrainStep step(c, options_for(DType::kF32, 1, 32));
  const auto allocator = make_cpu_allocator();
  step.allocate(*allocator);
  step.initialise(11);
  std::set<float> firsts;
  for (const TrainStep::State& state : step.states()) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < state.size; ++i)
      sum += static_cast<double>(number(state.weight, i)),
          squares += std::pow(static_cast<double>(number(state.weight, i)), 2);
    const auto n = static_cast<double>(state.size);
    if (state.shape.size() == 1) {
      const bool norm = state.name.find("norm") != std::string::npos;
      EXPECT_EQ(sum, norm ? n : 0) << state.name;
      EXPECT_EQ(squares, norm ? n : 0) << state.name;
      EXPECT_FALSE(state.parameter->decay) << state.name;
      continue;
    }
    const bool back = state.name.ends_with("o_proj.weight") || state.name.ends_with("down_proj.weight");
    const double std = back ? 0.05 / std::sqrt(2 * 8.0) : 0.05;
    EXPECT_NEAR(sum / n, 0, 5 * std / std::sqrt(n)) << state.name;
    EXPECT_NEAR(std::sqrt(squares / n) / std, 1, 5 / std::sqrt(2 * n)) << state.name;
    EXPECT_TRUE(state.parameter->decay) << state.name;
    EXPECT_TRUE(firsts.insert(number(state.weight, 0)).second) << state.name << " starts like another";
  }
}

// Repeats to the bit; an evaluation in between, other sequence lengths and a skipped update need no new plan.
void expect_repeats(DeviceKind device) {
  const auto golden = json_of("train/llama3.json"), tokens = json_of("train/tokens.json");
  std::vector<History> runs;
  for (const bool disturbed : {false, true}) {
    const auto allocator = make_allocator(device);
    auto options = options_for(DType::kF32, 4, 32);
    options.cu_seqlens_capacity = 129;
    options.device = device;
    TrainStep step(config_of("llama3"), options);
    step.allocate(*allocator);
    step.initialise(7);
    if (disturbed) {
      fill(step.inputs(), tokens[3], 0, 32);
      const double whole = step.evaluate(4).loss;
      for (int32_t i = 0; i <= 128; ++i)
        step.inputs().cu_seqlens[static_cast<size_t>(i)] = i;  // 128 sequences of one token
      EXPECT_NE(step.evaluate(128).loss, whole);
      step.micro_batch(128, true, 1);
      step.gradient_norm();
      op::StepScalars skipped;
      skipped.lr = 1, skipped.skip = 1;
      step.update(skipped);
    }
    runs.push_back(train(step, golden["settings"], tokens, 3));
  }
  EXPECT_EQ(runs[0].loss, runs[1].loss);
  EXPECT_EQ(runs[0].norm, runs[1].norm);
}

// Micro-batches that come again are graphs, with the same bits; one with other values is none.
TEST(TrainStep, GraphsOnAGpuHaveTheBitsOfLaunches) {
  FLAGSCALE_NEED_GPU();
  const auto golden = json_of("train/llama3.json"), tokens = json_of("train/tokens.json");
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    std::vector<History> runs;
    std::vector<double> other_losses;
    for (const bool graphs : {true, false}) {
      auto options = options_for(compute, 4, 32);
      options.device = DeviceKind::kCuda;
      options.graphs = graphs;
      TrainStep step(config_of("llama3"), options);
      const auto allocator = make_allocator(DeviceKind::kCuda);
      step.allocate(*allocator);
      step.initialise(7);
      runs.push_back(train(step, golden["settings"], tokens, 20));
      runs.back().states.clear();  // of this step
      const int64_t replayed = step.graphs_replayed();
      EXPECT_EQ(replayed, graphs ? 38 : 0);  // all but the first of a step's first and second micro-batches
      EXPECT_EQ(step.updates_replayed(), graphs ? 19 : 0);
      step.inputs().loss_mask[3] = 0;
      other_losses.push_back(step.micro_batch(4, true, 2).loss);
      EXPECT_EQ(step.graphs_replayed(), replayed);
    }
    EXPECT_EQ(runs[0].loss, runs[1].loss);
    EXPECT_EQ(runs[0].norm, runs[1].norm);
    EXPECT_EQ(other_losses[0], other_losses[1]);
  }
}

TEST(TrainStep, GraphsOnAGpuAreInThePlan) {
  FLAGSCALE_NEED_GPU();
  auto options = options_for(DType::kBF16, 4, 32);
  options.device = DeviceKind::kCuda;
  const auto planned = [&](bool graphs, int64_t micro_batches) {
    options.graphs = graphs, options.micro_batches = micro_batches;
    return TrainStep(config_of("llama3"), options).memory();
  };
  const MemoryUse none = planned(false, 8), one = planned(true, 1), eight = planned(true, 8);
  EXPECT_EQ(none.graphs, 0u);
  EXPECT_GT(one.graphs, 0u);
  EXPECT_GT(eight.graphs, one.graphs);
  EXPECT_EQ(eight.total() - eight.graphs, one.total() - one.graphs);
  EXPECT_GE(one.total() - one.graphs, none.total());
  // More than a graph holds: micro-batches are graphs of their own, of two kinds.
  EXPECT_EQ(planned(true, 1 << 20).graphs, planned(true, 2).graphs);
}

// Two micro-batches and their update at once: launches, then graphs, then launches again for another mask.
TEST(TrainStep, WholeStepsOnAGpuHaveTheBitsOfTheirParts) {
  FLAGSCALE_NEED_GPU();
  const auto tokens = json_of("train/tokens.json");
  const StateTypes narrow{DType::kBF16, DType::kBF16, DType::kBF16, DType::kBF16};
  for (const auto& [types, masked] :
       {std::pair{StateTypes{}, false}, {StateTypes{}, true}, {narrow, false}}) {
    std::vector<std::vector<double>> told;
    std::vector<std::vector<float>> weights;
    for (const bool whole : {true, false}) {
      auto options = options_for(DType::kBF16, 4, 32);
      options.device = DeviceKind::kCuda, options.optimizer.types = types;
      options.masked = masked;
      TrainStep step(config_of("llama3"), options);
      const auto allocator = make_allocator(DeviceKind::kCuda);
      step.allocate(*allocator);
      step.initialise(7);
      ASSERT_TRUE(step.steps_whole(2));
      auto& values = told.emplace_back();
      for (int s = 0; s < 8; ++s) {
        const op::StepScalars scalars{1e-3f * static_cast<float>(s + 1), 0.1f, 0.1f, 0.05f, 1.f, 0, s + 1};
        const auto fill_part = [&](int64_t m, const data::MicroBatch& inputs) {
          fill(inputs, tokens[static_cast<size_t>(s)], static_cast<size_t>(m * 4), 32);
          if (s == 5) inputs.loss_mask[3] = 0;
          if (s == 6 && m == 1) inputs.loss_mask[3] = INFINITY;  // nothing is updated
          return int64_t{4};
        };
        if (whole) {
          const auto done = step.whole_step({2, 0, fill_part}, scalars);
          values.push_back(done.sums.loss), values.push_back(static_cast<double>(done.norm));
        } else {
          double loss = 0;
          for (int64_t m = 0; m < 2; ++m) {
            const int64_t seqs = fill_part(m, step.inputs());
            loss += step.micro_batch(seqs, m == 0, 2).loss;
          }
          values.push_back(loss), values.push_back(static_cast<double>(step.gradient_norm()));
          step.update(scalars);
        }
        if (s != 6) continue;
        EXPECT_FALSE(std::isfinite(values.back()));
        values.resize(values.size() - 2);  // NaN equals nothing
      }
      EXPECT_EQ(step.steps_replayed(), whole ? 5 : 0);  // all but the first and those of other masks
      auto& all = weights.emplace_back();
      for (const auto& state : step.states())
        for (int64_t i = 0; i < state.size; ++i) all.push_back(number(state.weight, i));
    }
    EXPECT_EQ(told[0], told[1]);
    EXPECT_EQ(weights[0], weights[1]);
  }
}

// One plan for every count of learnt tokens: after other masks each gives, to the bit, what it gives alone;
// on a GPU whether it was launched, recorded or replayed.
void expect_masks_of_any_count(DeviceKind device) {
  const auto tokens = json_of("train/tokens.json");
  auto options = options_for(DType::kF32, 4, 32);
  options.device = device, options.masked = true;
  const auto allocator = make_allocator(device);
  const auto make = [&] {
    auto step = std::make_unique<TrainStep>(config_of("llama3"), options);
    step->allocate(*allocator);
    step->initialise(7);
    return step;
  };
  const auto run = [&](TrainStep& step, size_t every) {  // one token of so many is learnt; 0: none
    const data::MicroBatch inputs = step.inputs();
    fill(inputs, tokens[0], 0, 32);
    for (size_t i = 0; i < inputs.loss_mask.size(); ++i)
      inputs.loss_mask[i] = every > 0 && i % every == 0 ? 1.f : 0.f;
    const TrainStep::Sums sums = step.micro_batch(4, true, 1, 0, 128);  // of whatever count
    EXPECT_EQ(sums.tokens, every == 0 ? 0 : std::ceil(128.0 / static_cast<double>(every)));
    EXPECT_NEAR(step.evaluate(4).loss, sums.loss, device == DeviceKind::kCpu ? 0 : 1e-5 * sums.loss);
    return std::pair{sums.loss, step.gradient_norm()};
  };
  const auto kept = make();
  for (const size_t every : {1u, 3u, 128u, 0u, 2u, 2u, 1u, 1u, 3u}) {
    SCOPED_TRACE(every);
    const auto got = run(*kept, every);
    EXPECT_EQ(got, run(*make(), every));
    EXPECT_EQ(got.first > 0 && got.second > 0, every > 0);
  }
  EXPECT_EQ(kept->graphs_replayed(), device == DeviceKind::kCpu ? 0 : 4);
}

TEST(TrainStep, MasksOfAnyCountServeFromOnePlan) { expect_masks_of_any_count(DeviceKind::kCpu); }

TEST(TrainStep, MasksOfAnyCountServeFromOnePlanOnAGpu) {
  FLAGSCALE_NEED_GPU();
  expect_masks_of_any_count(DeviceKind::kCuda);
}

// Steps in which half of the labels are masked, of a micro-batch each.
History train_halves(TrainStep& step, const nlohmann::json& tokens, int steps) {
  History history;
  for (int s = 0; s < steps; ++s) {
    const data::MicroBatch inputs = step.inputs();
    fill(inputs, tokens[static_cast<size_t>(s)], 0, 32);
    for (size_t i = 0; i < inputs.loss_mask.size(); ++i) inputs.loss_mask[i] = i % 32 < 16 ? 0.f : 1.f;
    const TrainStep::Sums sums = step.micro_batch(4, true, 1);
    EXPECT_EQ(sums.tokens, 64);
    history.loss.push_back(sums.loss / sums.tokens);
    history.norm.push_back(static_cast<double>(step.gradient_norm()));
    const float power = static_cast<float>(s + 1);
    step.update({1e-3f, 0.1f, 1 - std::pow(0.9f, power), 1 - std::pow(0.95f, power), 1.f, 0, s + 1});
  }
  return history;
}

TEST(TrainStep, HalfOfTheLabelsMaskedOnAGpuIsTheCpus) {
  FLAGSCALE_NEED_GPU();
  const auto tokens = json_of("train/tokens.json");
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(name(compute));
    const auto run = [&](DeviceKind device, bool masked) {
      auto options = options_for(compute, 4, 32);
      options.device = device, options.masked = masked, options.evaluation = false;
      TrainStep step(config_of("llama3"), options);
      const auto allocator = make_allocator(device);
      step.allocate(*allocator);
      step.initialise(7);
      return train_halves(step, tokens, 6);
    };
    const History want = run(DeviceKind::kCpu, true);
    for (const bool masked : {true, false}) {
      SCOPED_TRACE(masked);
      const History got = run(DeviceKind::kCuda, masked);
      for (size_t s = 0; s < 6; ++s) {
        EXPECT_NEAR(got.loss[s] / want.loss[s], 1, compute == DType::kF32 ? 3e-5 : 5e-3) << s;
        EXPECT_NEAR(got.norm[s] / want.norm[s], 1, compute == DType::kF32 ? 1e-3 : 5e-2) << s;
      }
    }
  }
}

// Two micro-batches whose masks share no token have the gradient of one that learns all.
void expect_halves_to_add_up(DeviceKind device) {
  const auto tokens = json_of("train/tokens.json");
  auto options = options_for(DType::kF32, 4, 32);
  options.device = device, options.masked = true, options.evaluation = false;
  TrainStep step(config_of("llama3"), options);
  const auto allocator = make_allocator(device);
  step.allocate(*allocator);
  step.initialise(7);
  const data::MicroBatch inputs = step.inputs();
  fill(inputs, tokens[0], 0, 32);
  const double loss = step.micro_batch(4, true, 1, 0, 128).loss;
  const float norm = step.gradient_norm();
  double sum = 0;
  for (const size_t half : {0u, 1u}) {
    for (size_t i = 0; i < inputs.loss_mask.size(); ++i)
      inputs.loss_mask[i] = (i % 32 < 11) == (half == 0) ? 1.f : 0.f;
    sum += step.micro_batch(4, half == 0, 2, 0, 128).loss;
  }
  EXPECT_NEAR(sum / loss, 1, 1e-6);
  EXPECT_NEAR(step.gradient_norm() / norm, 1, 1e-5);
}

TEST(TrainStep, HalvesOfAMaskAddUp) { expect_halves_to_add_up(DeviceKind::kCpu); }

TEST(TrainStep, HalvesOfAMaskAddUpOnAGpu) {
  FLAGSCALE_NEED_GPU();
  expect_halves_to_add_up(DeviceKind::kCuda);
}

TEST(TrainStep, RepeatsToTheBitWhateverRanInBetween) { expect_repeats(DeviceKind::kCpu); }

TEST(TrainStep, RepeatsToTheBitOnAGpu) {
  FLAGSCALE_NEED_GPU();
  expect_repeats(DeviceKind::kCuda);
}

TEST(TrainStep, APlanOfSeventyBillionParametersTakesNoMemory) {
  model::DecoderConfig c;
  c.num_layers = 80, c.hidden_size = 8192, c.num_heads = 64, c.num_kv_heads = 8, c.head_dim = 128;
  c.intermediate_size = 28672, c.vocab_size = 100096, c.max_positions = 4096, c.rope.head_dim = 128;
  const TrainStep step(c, options_for(DType::kBF16, 1, 4096));
  EXPECT_GT(step.memory().total(), size_t{1} << 40);
}

TEST(TrainStep, HeadsThatAGpuDoesNotTrainAreRefusedBeforePlanning) {
  model::DecoderConfig c = config_of("llama3");
  c.head_dim = c.rope.head_dim = op::kMostHeadDimOnCuda + 8;
  StepOptions options = options_for(DType::kBF16, 1, 32);
  EXPECT_NO_THROW(TrainStep(c, options));
  options.device = DeviceKind::kCuda;
  try {
    TrainStep(c, options);
    FAIL() << "planned";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("kv_channels (head_dim) is 264: at most 256"), std::string::npos)
        << error.what();
  }
}

// The same conversations in one packed sample, and padded one a sample.
TEST(TrainStep, PackedOrPaddedIsTheSameLossAndGradient) {
  const TemporaryFolder folder;
  {
    data::IndexedWriter text(folder.path + "/x_text_document", data::TokenType::kU16),
        mask(folder.path + "/x_loss_mask_document", data::TokenType::kU16);
    const auto tokens = json_of("train/tokens.json");
    for (const size_t length : {9u, 17u, 5u, 12u}) {
      std::vector<int32_t> ids, learnt;
      for (size_t i = 0; i < length; ++i)
        ids.push_back(tokens[1][length % 8][i]), learnt.push_back(i > length / 3 ? 1 : 0);
      text.add_sequence(ids), mask.add_sequence(learnt);
      text.end_document(), mask.end_document();
    }
    text.commit(), mask.commit();
    text.remove_parts(), mask.remove_parts();
  }
  data::DatasetOptions data;
  data.data_path = {folder.path + "/x_text_document"};
  data.split = "1", data.sft = true;
  data.samples[data::kValid] = data.samples[data::kTest] = 0;
  data::MaskOptions packed;
  packed.packed = true;
  std::vector<double> losses;
  std::vector<std::vector<float>> gradients;
  for (const bool pack : {true, false}) {
    data.sequence_length = pack ? 46 : 20, data.sft_packing = pack;
    const auto source = std::move(data::build_datasets(data)[data::kTrain]);
    ASSERT_EQ(source->size(), pack ? 1 : 4);
    StepOptions options = options_for(DType::kF32, source->size(), data.sequence_length);
    options.cu_seqlens_capacity = data::max_cu_seqlens(source->size(), data.sequence_length, packed);
    options.evaluation = false;
    TrainStep step(config_of("llama3"), options);
    const auto allocator = make_cpu_allocator();
    step.allocate(*allocator);
    step.load(*io::open_weights(kGolden + "model/llama3"));
    const int64_t entries = data::fill_micro_batch(*source, 0, packed, step.inputs());
    losses.push_back(step.micro_batch(entries - 1, true, 1).loss);
    auto& all = gradients.emplace_back();
    for (const auto& state : step.states(true))
      all.insert(all.end(), state.grad.data<float>(), state.grad.data<float>() + state.size);
  }
  EXPECT_NEAR(losses[0] / losses[1], 1, 1e-6);
  float difference = 0, largest = 0;
  for (size_t i = 0; i < gradients[0].size(); ++i) {
    difference = std::max(difference, std::fabs(gradients[0][i] - gradients[1][i]));
    largest = std::max(largest, std::fabs(gradients[1][i]));
  }
  EXPECT_LT(difference, 1e-6f * largest);
}

}  // namespace
}  // namespace flagscale::train
