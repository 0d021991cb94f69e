// Muon against torch.optim.Muon (tests/golden/train/muon.json), in both types of its products, and what is a
// matrix of an adapter.
#include "op/muon/muon.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernel/eager.h"
#include "train/parity_test_support.h"
#include "train/saving.h"

namespace flagscale::train::optimizers {
namespace {

using testing::config_of;
using testing::fill;
using testing::json_of;
using testing::kGolden;
using testing::options_for;

// make_muon.py's numbers().
struct Numbers {
  uint32_t state = 7;
  void fill(const Tensor& t) {
    for (int64_t i = 0; i < t.shape().numel(); ++i) {
      state = state * 1664525u + 1013904223u;
      t.data<float>()[i] = static_cast<float>(state / 2147483648.0 - 1);
    }
  }
};

// How far our matrix ends from torch's, as a share of how far that moved.
double distance(const nlohmann::json& want, DType type) {
  const Shape shape{want["rows"].get<int64_t>(), want["columns"].get<int64_t>()};
  const auto allocator = make_cpu_allocator();
  const Team team(2);
  EagerRecorder recorder(*allocator, team);
  const Tensor param = make_tensor(*allocator, shape, DType::kF32),
               start = make_tensor(*allocator, shape, DType::kF32),
               grad = make_tensor(*allocator, shape, DType::kF32),
               m = make_tensor(*allocator, shape, DType::kF32),
               norm = make_tensor(*allocator, {1}, DType::kF32);
  Numbers numbers;
  numbers.fill(param);
  std::copy_n(param.data<float>(), shape.numel(), start.data<float>());
  std::fill_n(m.data<float>(), shape.numel(), 0.f);
  norm.data<float>()[0] = 1;
  op::StepScalars step;
  step.lr = 0.02f, step.weight_decay = 0.1f, step.clip = 0;
  const Tensor scalars = recorder.empty({sizeof step}, DType::kU8);
  copy_from_host(&step, scalars);
  const double rows = want["rows"], columns = want["columns"];
  const auto scale = static_cast<float>(std::sqrt(std::max(1.0, rows / columns)));
  for (int s = 0; s < 5; ++s) {
    numbers.fill(grad);
    const Tensor direction = recorder.empty(shape, DType::kF32);
    recorder.launch(op::kMuonDirection,
                    {m, grad, norm, direction, scalars, 0.9f, want["nesterov"].get<bool>()});
    const Tensor flat = op::orthogonalize(recorder, direction, 5, type);
    recorder.launch(op::kMuonApply, {param, flat, norm, {}, scalars, scale, true});
  }
  const auto& end = want[type == DType::kF32 ? "fp32" : "bf16"];
  double apart = 0, moved = 0;
  for (int64_t i = 0; i < shape.numel(); ++i) {
    const double there = end[static_cast<size_t>(i)];
    apart += std::pow(static_cast<double>(param.data<float>()[i]) - there, 2);
    moved += std::pow(static_cast<double>(start.data<float>()[i]) - there, 2);
  }
  return std::sqrt(apart / moved);
}

TEST(MuonParity, FiveStepsEndWhereTorchsDo) {
  const auto golden = json_of("train/muon.json");
  for (const auto& want : golden["matrices"]) {
    SCOPED_TRACE(want["rows"].dump() + " rows");
    EXPECT_LT(distance(want, DType::kF32), 1e-5);
    EXPECT_LT(distance(want, DType::kBF16), 0.02);
  }
}

// q, k and v share an A, so do gate and up: each is a matrix by itself.
TEST(MuonParity, FiveStepsOfAnAdapterEqualTorchsOfPefts) {
  const auto golden = json_of("train/muon.json")["lora"], tokens = json_of("train/tokens.json");
  StepOptions options = options_for(DType::kF32, 4, 32);
  options.lora = LoraSpec{{"all-linear"}, 4, 8, 0, false, "kaiming", "zero"};
  options.optimizer.name = "muon", options.optimizer.muon_momentum = golden["settings"]["muon_momentum"];
  const auto allocator = make_cpu_allocator();
  TrainStep step(config_of("llama3"), options);
  step.allocate(*allocator);
  step.load(*io::open_weights(kGolden + "model/llama3"));
  const std::string folder = kGolden + "train/lora/llama3";
  load_adapter(model::open_peft(folder), folder, step);
  const testing::History got = testing::train(step, golden["settings"], tokens, 5);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(got.loss[i] / golden["loss"][i].get<double>(), 1, 1e-5) << "step " << i;
    EXPECT_NEAR(got.norm[i] / golden["grad_norm"][i].get<double>(), 1, 1e-3) << "step " << i;
  }
  for (const TrainStep::State& state : got.states) {
    double squares = 0;
    for (int64_t i = 0; i < state.size; ++i)
      squares += std::pow(static_cast<double>(number(state.weight, i)), 2);
    EXPECT_NEAR(std::sqrt(squares) / golden["final"][state.name].get<double>(), 1, 1e-4) << state.name;
  }
}

// An orthogonal update has the norm of its rank: of each expert's A and B, in both types.
TEST(MuonParity, EveryExpertsMatrixIsOrthogonalByItself) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    StepOptions options = options_for(dtype, 8, 32);
    options.lora = LoraSpec{{"w1", "w2", "w3", "linear_qkv"}, 3, 6, 0, false, "gaussian", "gaussian"};
    options.optimizer.name = "muon";
    const auto allocator = make_cpu_allocator();
    TrainStep step(config_of("mixtral"), options);
    step.allocate(*allocator);
    step.load(*io::open_weights(kGolden + "model/mixtral"));
    step.initialise(7);
    fill(step.inputs(), json_of("train/tokens.json")[0], 0, 32);
    step.micro_batch(8, true, 1);
    step.gradient_norm();
    std::vector<std::vector<float>> before;
    for (const TrainStep::State& s : step.states())
      before.emplace_back(s.weight.data<float>(), s.weight.data<float>() + s.size);
    op::StepScalars scalars;
    scalars.lr = 0.01f, scalars.weight_decay = 0;
    step.update(scalars);
    size_t seen = 0;
    const auto states = step.states();
    for (size_t i = 0; i < states.size(); ++i) {
      const TrainStep::State& s = states[i];
      const bool part_of_qkv = s.parameter->parts.size() > 1 && s.parameter->groups == 1;
      double squares = 0;
      for (int64_t k = 0; k < s.size; ++k)
        squares += std::pow(static_cast<double>(number(s.weight, k) - before[i][static_cast<size_t>(k)]), 2);
      if (squares == 0 || part_of_qkv) continue;
      const double larger = static_cast<double>(std::max(s.shape[0], s.shape[1]));
      const double rank = squares / (0.01 * 0.01 * larger);  // the scale's square is the larger side
      EXPECT_GT(rank, 0.4 * 3) << s.name;
      EXPECT_LT(rank, 1.5 * 3) << s.name;
      ++seen;
    }
    EXPECT_GT(seen, 20u);
  }
}

}  // namespace
}  // namespace flagscale::train::optimizers
