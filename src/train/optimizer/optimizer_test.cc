// Every optimizer: twenty steps against its reference (tests/golden/train/optimizers.json), what it keeps,
// and a run that goes on to the bit, of the whole model and of an adapter.
#include "train/optimizer/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/log.h"
#include "base/temporary_folder_test_support.h"
#include "io/checkpoint.h"
#include "model/decoder/config.h"
#include "train/parity_test_support.h"
#include "train/trainer.h"

namespace flagscale::train::optimizers {
namespace {

using testing::config_of;
using testing::fill;
using testing::json_of;
using testing::kGolden;

OptimizerSpec spec_of(const nlohmann::json& settings) {
  OptimizerSpec spec;
  spec.name = settings["optimizer"];
  spec.adam_beta1 = settings["adam_beta1"], spec.adam_beta2 = settings["adam_beta2"];
  spec.adam_eps = settings["adam_eps"];
  spec.sgd_momentum = settings["sgd_momentum"];
  spec.lion_beta1 = settings["lion_beta1"], spec.lion_beta2 = settings["lion_beta2"];
  spec.adafactor_decay_rate = settings["adafactor_decay_rate"];
  spec.adafactor_clip_threshold = settings["adafactor_clip_threshold"];
  spec.adafactor_scale_parameter = settings["adafactor_scale_parameter"];
  spec.muon_momentum = settings["muon_momentum"];
  spec.muon_use_nesterov = settings["muon_use_nesterov"];
  spec.muon_split_qkv = !settings["muon_no_split_qkv"].get<bool>();
  spec.muon_scale_mode = settings["muon_scale_mode"];
  spec.muon_num_ns_steps = settings["muon_num_ns_steps"];
  spec.muon_extra_scale_factor = settings["muon_extra_scale_factor"];
  return spec;
}

// 8 bits: a state's rounding, of up to 6 % of a number, amplifies what rounding in fp32 leaves: a number on
// the border between two codes is encoded either way.
double tolerance(const std::string& optimizer) { return optimizer == "adamw8bit" ? 2e-3 : 1e-5; }

void expect_reference(const nlohmann::json& want, const nlohmann::json& tokens, DeviceKind device) {
  const nlohmann::json& settings = want["settings"];
  StepOptions options;
  options.micro_batch_size = 4, options.sequence_length = 32, options.threads = 2;
  options.optimizer = spec_of(settings), options.device = device;
  TrainStep step(config_of(want["model"]), options);
  const size_t planned = step.bytes();
  const auto allocator = make_allocator(device);
  step.allocate(*allocator);
  EXPECT_EQ(allocator->peak(), planned);
  step.load(*io::open_weights(kGolden + "model/" + want["model"].get<std::string>()));
  LrSchedule lr;
  lr.style = "cosine", lr.lr = settings["lr"], lr.min_lr = settings["min_lr"];
  lr.warmup_samples = settings["lr_warmup_samples"], lr.decay_samples = settings["lr_decay_samples"];
  for (int s = 0; s < 20; ++s) {
    double loss = 0, count = 0;
    for (size_t m = 0; m < 2; ++m) {
      fill(step.inputs(), tokens[static_cast<size_t>(s)], m * 4, 32);
      const TrainStep::Sums sums = step.micro_batch(4, m == 0, 2);
      loss += sums.loss, count += sums.tokens;
    }
    EXPECT_NEAR(loss / count / want["loss"][static_cast<size_t>(s)].get<double>(), 1,
                tolerance(options.optimizer.name))
        << "step " << s;
    step.gradient_norm();
    op::StepScalars scalars;
    scalars.lr = static_cast<float>(learning_rate(lr, s * 8));
    scalars.weight_decay = settings["weight_decay"], scalars.clip = settings["clip_grad"];
    scalars.bias1 = static_cast<float>(1 - std::pow(0.9, s + 1));
    scalars.bias2 = static_cast<float>(1 - std::pow(0.95, s + 1));
    scalars.update = s + 1;
    step.update(scalars);
  }
  for (const TrainStep::State& state : step.states()) {
    double squares = 0;
    for (int64_t i = 0; i < state.size; ++i)
      squares += std::pow(static_cast<double>(number(state.weight, i)), 2);
    const bool rounding = state.name.ends_with("k_proj.bias");  // its gradient is softmax's rounding
    const double bound = rounding ? 0.3 : 10 * tolerance(options.optimizer.name);
    EXPECT_NEAR(std::sqrt(squares) / want["final"][state.name].get<double>(), 1, bound) << state.name;
  }
}

void expect_references(DeviceKind device) {
  const auto cases = json_of("train/optimizers.json"), tokens = json_of("train/tokens.json");
  std::set<std::string> seen{"adam"};  // step_test.cc has it
  for (const auto& want : cases) {
    SCOPED_TRACE(want["keys"].dump() + " " + want["model"].get<std::string>());
    expect_reference(want, tokens, device);
    seen.insert(want["keys"]["optimizer"].get<std::string>());
  }
  for (const std::string& name : optimizer_names()) EXPECT_TRUE(seen.contains(name)) << name;
}

TEST(Optimizers, TwentyStepsEqualTheirReferences) { expect_references(DeviceKind::kCpu); }
TEST(Optimizers, TwentyStepsOnAGpuEqualTheirReferences) {
  FLAGSCALE_NEED_GPU();
  expect_references(DeviceKind::kCuda);
}

TEST(Optimizers, WhatTheyKeepIsInThePlan) {
  model::DecoderConfig c;
  c.num_layers = 12, c.hidden_size = 768, c.num_heads = 12, c.num_kv_heads = 12, c.head_dim = 64;
  c.intermediate_size = 2048, c.vocab_size = 50304, c.max_positions = 64, c.rope.head_dim = 64;
  c.tie_embeddings = true;
  StepOptions options;
  options.sequence_length = 64, options.evaluation = false;
  const auto bytes_an_element = [&](const std::string& name, double momentum = 0.9) {
    options.optimizer.name = name, options.optimizer.sgd_momentum = momentum;
    const TrainStep step(c, options);
    return static_cast<double>(step.memory().optimizer) / static_cast<double>(step.trained_parameters());
  };
  EXPECT_NEAR(bytes_an_element("adam"), 8, 0.01);
  EXPECT_NEAR(bytes_an_element("sgd"), 4, 0.01);
  EXPECT_EQ(bytes_an_element("sgd", 0), 0);
  EXPECT_NEAR(bytes_an_element("lion"), 4, 0.01);
  EXPECT_LT(bytes_an_element("adafactor"), 0.02);
  const double embedding = 768.0 * 50304,
               all = static_cast<double>(TrainStep(c, options).trained_parameters());
  EXPECT_NEAR(bytes_an_element("muon"), (4 * (all - embedding) + 8 * embedding) / all, 0.01);
  EXPECT_NEAR(bytes_an_element("adamw8bit"), ((2 + 8.0 / 256) * (all - embedding) + 8 * embedding) / all,
              0.01);
}

TEST(Optimizers, AnUnknownNameIsNamedWithTheNearest) {
  OptimizerSpec spec;
  spec.name = "adamw8bits";
  try {
    make_optimizer(spec);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean adamw8bit?"), std::string::npos) << error.what();
  }
}

TrainOptions tiny(const std::string& optimizer) {
  TrainOptions o;
  o.model.num_layers = 1, o.model.hidden_size = 64, o.model.num_heads = 4, o.model.num_kv_heads = 2,
  o.model.head_dim = 16;
  o.model.intermediate_size = 96, o.model.vocab_size = 1000, o.model.max_positions = 16,
  o.model.rope.head_dim = 16;
  o.seq_length = 16, o.micro_batch_size = 2, o.global_batch_size = 4, o.train_iters = 6;
  o.lr.style = "constant", o.lr.lr = 5e-3, o.lr.decay_samples = 24, o.lr.global_batch_size = 4;
  o.data.data_path = {kGolden + "data/a"}, o.data.split = "80,20", o.data.sequence_length = 16,
  o.data.vocab_size = 1000;
  o.data.samples = {1000, 1000, 1000};
  o.log_interval = 1;
  o.optimizer.name = optimizer;
  return o;
}

// Everything that goes on: weights and what is kept.
std::vector<std::byte> train(const TrainOptions& options) {
  set_log_level(LogLevel::kWarning);
  Trainer trainer(options);
  std::FILE* out = std::fopen("/dev/null", "w");
  trainer.run(out);
  std::fclose(out);
  std::vector<std::byte> all;
  for (const TrainStep::State& state : trainer.step().states()) {
    const std::span weight(static_cast<const std::byte*>(state.weight.raw()), state.weight.bytes());
    all.insert(all.end(), weight.begin(), weight.end());
    for (const TrainStep::Kept& kept : state.kept)
      all.insert(all.end(), kept.bytes.begin(), kept.bytes.end());
  }
  return all;
}

double last_loss(const std::string& optimizer, int64_t iterations) {
  set_log_level(LogLevel::kWarning);
  TrainOptions o = tiny(optimizer);
  o.train_iters = iterations, o.lr.decay_samples = 4 * iterations;
  Trainer trainer(o);
  std::FILE* out = std::fopen("/dev/null", "w");
  const TrainResult result = trainer.run(out);
  std::fclose(out);
  return result.lm_loss.value();
}

TEST(Optimizers, EightBitsLearnAsFp32Does) {
  const double first = last_loss("adam", 1), fp32 = last_loss("adam", 60), eight = last_loss("adamw8bit", 60);
  EXPECT_LT(fp32, 0.9 * first) << "nothing is learnt: the test proves nothing";
  EXPECT_NEAR((first - eight) / (first - fp32), 1, 0.02) << first << " " << fp32 << " " << eight;
}

void expect_goes_on(TrainOptions o, const std::string& folder) {
  const auto whole = train(o);
  o.save = o.load = folder;
  o.exit_interval = 3;
  const auto first = train(o);
  o.exit_interval = 0;
  EXPECT_EQ(train(o), whole);
  EXPECT_NE(first, whole);
}

void expect_all_go_on(DeviceKind device) {
  const TemporaryFolder folder;
  TrainOptions base = tiny("adam");
  base.train_iters = 1, base.save = folder.path + "/base";
  train(base);
  for (const std::string& name : optimizer_names())
    for (const bool bf16 : {false, true}) {
      SCOPED_TRACE(name + (bf16 ? " bf16" : " fp32"));
      TrainOptions o = tiny(name);
      o.device = device;
      o.compute = bf16 ? DType::kBF16 : DType::kF32;
      expect_goes_on(o, fmt::format("{}/{}{}", folder.path, name, bf16));
      o.init_from = base.save;
      o.lora = LoraSpec{{"linear_qkv", "down_proj"}, 4, 8, 0, false, "xavier", "zero"};
      expect_goes_on(o, fmt::format("{}/{}{}-lora", folder.path, name, bf16));
    }
}

TEST(Optimizers, GoOnToTheBitInWholeModelsAndAdapters) { expect_all_go_on(DeviceKind::kCpu); }
TEST(Optimizers, GoOnToTheBitInWholeModelsAndAdaptersOnAGpu) {
  FLAGSCALE_NEED_GPU();
  expect_all_go_on(DeviceKind::kCuda);
}

// Experts are one weight, whose matrices are each expert's own.
void expect_mixtures_go_on(DeviceKind device) {
  const TemporaryFolder folder;
  for (const std::string& name : optimizer_names()) {
    SCOPED_TRACE(name);
    TrainOptions o = tiny(name);
    o.model.model_type = "mixtral";
    o.model.moe.experts = 4, o.model.moe.top_k = 2, o.model.moe.size = o.model.intermediate_size;
    o.device = device;
    expect_goes_on(o, folder.path + "/" + name);
  }
}

TEST(Optimizers, GoOnToTheBitInMixtures) { expect_mixtures_go_on(DeviceKind::kCpu); }
TEST(Optimizers, GoOnToTheBitInMixturesOnAGpu) {
  FLAGSCALE_NEED_GPU();
  expect_mixtures_go_on(DeviceKind::kCuda);
}

TEST(Optimizers, ACheckpointOfAnotherIsRefusedUnlessItsStateIsLeft) {
  const TemporaryFolder folder;
  TrainOptions o = tiny("sgd");
  o.save = o.load = folder.path + "/c", o.train_iters = 2;
  train(o);
  const io::Checkpoint checkpoint(o.save);
  EXPECT_NE(checkpoint.find("momentum_buffer:model.norm.weight"), nullptr);
  o.optimizer.name = "adam", o.train_iters = 4;
  try {
    train(o);
    FAIL() << "it went on";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("was trained with optimizer: sgd, and this run's is adam"),
              std::string::npos)
        << error.what();
  }
  o.no_load_optim = true;
  EXPECT_FALSE(train(o).empty());
}

}  // namespace
}  // namespace flagscale::train::optimizers
