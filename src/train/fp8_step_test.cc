// Training with products in fp8: near what bf16 and fp32 give, the same on a GPU and in the scalar kernels.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "device/cuda/cuda.h"
#include "train/parity_test_support.h"

namespace flagscale::train {
namespace {

constexpr int64_t kFp8Length = 64;
using Recipe = op::Fp8Recipe;
constexpr Recipe kFp8Recipes[] = {Recipe::kTensorwise, Recipe::kBlockwise};

model::DecoderConfig fp8_model() {
  model::DecoderConfig c;
  c.num_layers = 2, c.hidden_size = 128, c.num_heads = 4, c.num_kv_heads = 2, c.head_dim = 32;
  c.intermediate_size = 256, c.vocab_size = 128, c.tie_embeddings = true, c.qkv_bias = true;
  c.max_positions = kFp8Length, c.rope.head_dim = 32;
  return c;
}

StepOptions fp8_options(DType compute, std::optional<Fp8Spec> fp8 = {},
                        DeviceKind device = DeviceKind::kCpu) {
  StepOptions o;
  o.compute = compute, o.fp8 = fp8, o.device = device;
  o.micro_batch_size = 2, o.sequence_length = kFp8Length, o.threads = 2;
  return o;
}

Fp8Spec hybrid(Recipe recipe) { return {{recipe, Fp8::kE5M2}, 0, 0}; }

struct Fp8Run {
  std::unique_ptr<Allocator> allocator;
  TrainStep step;

  explicit Fp8Run(const StepOptions& o, const model::DecoderConfig& config = fp8_model())
      : allocator(make_allocator(o.device)), step(config, o) {
    step.allocate(*allocator);
    step.initialise(7);
  }
  // Tokens of sequences that follow from one number each.
  void fill(int seed) {
    const data::MicroBatch batch = step.inputs();
    for (size_t i = 0; i < batch.tokens.size(); ++i) {
      const auto at = static_cast<int64_t>(i) % kFp8Length,
                 row = static_cast<int64_t>(i) / kFp8Length + 2 * seed;
      const auto token = [&](int64_t k) {
        return static_cast<int32_t>((row * 31 + k * (3 + row % 5)) % 128);
      };
      batch.tokens[i] = token(at), batch.labels[i] = token(at + 1);
      batch.loss_mask[i] = 1, batch.position_ids[i] = static_cast<int32_t>(at);
    }
    for (size_t s = 0; s < 3; ++s) batch.cu_seqlens[s] = static_cast<int32_t>(s * kFp8Length);
  }
  double accumulate(int seed, bool first, int64_t micro_batches) {
    fill(seed);
    return step.micro_batch(2, first, micro_batches).loss;
  }
  std::vector<float> gradients() const {
    std::vector<float> all;
    for (const TrainStep::State& s : step.states(true)) {
      const auto* from = s.grad.data<float>();
      all.insert(all.end(), from, from + s.size);
    }
    return all;
  }
  std::vector<float> weights() const {
    std::vector<float> all;
    for (const TrainStep::State& s : step.states()) {
      const auto* from = s.weight.data<float>();
      all.insert(all.end(), from, from + s.size);
    }
    return all;
  }
  std::vector<double> train(int steps = 20, int micro_batches = 2) {
    std::vector<double> losses;
    float power1 = 1, power2 = 1;
    for (int i = 0; i < steps; ++i) {
      double loss = 0;
      for (int m = 0; m < micro_batches; ++m) loss += accumulate(2 * (i % 2) + m, m == 0, micro_batches);
      losses.push_back(loss / static_cast<double>(2 * kFp8Length * micro_batches));
      step.gradient_norm();
      op::StepScalars scalars{1e-3f, 0.01f, 1, 1, 1, 0};
      scalars.bias1 = 1 - (power1 *= 0.9f), scalars.bias2 = 1 - (power2 *= 0.999f), scalars.update = i + 1;
      step.update(scalars);
    }
    return losses;
  }
};

// In the square mean.
double fp8_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    difference += (x - y) * (x - y), size += y * y;
  }
  return std::sqrt(difference / size);
}

TEST(Fp8Step, TwentyStepsAreNearThoseInBf16) {
  Fp8Run wide(fp8_options(DType::kBF16));
  const std::vector<double> bf16 = wide.train(20, 1);
  EXPECT_LT(bf16.back(), 0.7 * bf16.front());
  for (const Recipe recipe : kFp8Recipes) {
    Fp8Run narrow(fp8_options(DType::kBF16, hybrid(recipe)));
    const std::vector<double> fp8 = narrow.train(20, 1);
    EXPECT_NE(fp8, bf16);
    for (size_t i = 0; i < bf16.size(); ++i)
      EXPECT_NEAR(fp8[i] / bf16[i], 1, 0.03) << op::name(recipe) << " step " << i;
    narrow.fill(1);  // weights are rounded anew for an evaluation, and for the step after it
    const double evaluated = narrow.step.evaluate(2).loss;
    EXPECT_EQ(narrow.accumulate(1, true, 1), evaluated);
  }
}

// The numbers of fp8 are those of the weights when they were last told to have changed.
TEST(Fp8Step, EvaluationsBetweenUpdatesRoundWeightsOnce) {
  Fp8Run t(fp8_options(DType::kBF16, hybrid(Recipe::kTensorwise)));
  t.train(1, 2);
  t.fill(1);
  const double loss = t.step.evaluate(2).loss;
  for (nn::Parameter& p : t.step.decoder().parameters().parameters())
    if (p.fp8.defined()) std::memset(p.value.raw(), 0, p.value.bytes());
  EXPECT_EQ(t.step.evaluate(2).loss, loss);
  t.step.weights_changed();
  EXPECT_EQ(t.step.evaluate(2).loss, loss);
  t.train(1, 1);
  t.fill(1);
  const double then = t.step.evaluate(2).loss;
  EXPECT_NE(then, loss);
  EXPECT_EQ(t.accumulate(1, true, 1), then);
}

// Of one step from the same weights, beside fp32's, whose rounding is a thousandth of theirs.
TEST(Fp8Step, GradientsAreAsFarFromFp32sAsEightBitsAre) {
  const auto gradients = [](const StepOptions& o) {
    Fp8Run t(o);
    t.accumulate(0, true, 1);
    return t.gradients();
  };
  const std::vector<float> exact = gradients(fp8_options(DType::kF32));
  const double bf16 = fp8_distance(gradients(fp8_options(DType::kBF16)), exact);
  EXPECT_LT(bf16, 0.02);
  for (const Recipe recipe : kFp8Recipes)
    for (const Fp8 format : {Fp8::kE4M3, Fp8::kE5M2}) {
      const double fp8 =
          fp8_distance(gradients(fp8_options(DType::kBF16, Fp8Spec{{recipe, format}, 0, 0})), exact);
      RecordProperty(std::string(op::name(recipe)) + "_" + name(format), std::to_string(fp8));
      EXPECT_GT(fp8, 2 * bf16);
      EXPECT_LT(fp8, format == Fp8::kE4M3 ? 0.08 : 0.12) << op::name(recipe) << " " << name(format);
    }
}

TEST(Fp8Step, MicroBatchesAddUpAndRecomputedLayersHaveTheSameGradients) {
  for (const Recipe recipe : kFp8Recipes) {
    StepOptions options = fp8_options(DType::kBF16, hybrid(recipe));
    Fp8Run t(options);
    t.accumulate(0, true, 2);
    const std::vector<float> first = t.gradients();
    t.accumulate(1, true, 2);
    std::vector<float> sum = t.gradients();
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += first[i];
    t.accumulate(0, true, 2);
    t.accumulate(1, false, 2);
    EXPECT_LT(testing::difference(t.gradients(), sum), 1e-6);
    options.recompute = {model::Recompute::kFull, -1};
    Fp8Run again(options);
    again.accumulate(0, true, 2);
    again.accumulate(1, false, 2);
    // In bf16 the sum that a layer ends with is rounded where it is kept.
    EXPECT_LT(fp8_distance(again.gradients(), t.gradients()), 0.03);
  }
}

TEST(Fp8Step, LayersAtTheEndsMayStayInBf16) {
  const auto losses = [](std::optional<Fp8Spec> fp8) {
    return Fp8Run(fp8_options(DType::kBF16, fp8)).train(2);
  };
  Fp8Spec one = hybrid(Recipe::kTensorwise), none = one;
  one.last_in_bf16 = 1;
  none.first_in_bf16 = none.last_in_bf16 = 1;
  EXPECT_NE(losses(one), losses(hybrid(Recipe::kTensorwise)));
  EXPECT_NE(losses(one), losses({}));
  EXPECT_EQ(losses(none), losses({}));
}

// An adapter's base is rounded for its products; what the adapter adds is in bf16.
TEST(Fp8Step, AnAdapterOfABaseInFp8Learns) {
  StepOptions options = fp8_options(DType::kBF16, hybrid(Recipe::kTensorwise));
  options.lora = LoraSpec{{"all-linear"}, 4, 8, 0, false, "kaiming", "zero"};
  const auto losses = [](const StepOptions& o) {
    Fp8Run t(o);
    Fp8Run base(fp8_options(DType::kBF16));
    auto& to = t.step.decoder().parameters().parameters();
    auto& from = base.step.decoder().parameters().parameters();
    for (size_t i = 0; i < to.size(); ++i) t.step.take_frozen(to[i], from[i].value);
    return t.train(20, 1);
  };
  const std::vector<double> fp8 = losses(options);
  options.fp8 = {};
  const std::vector<double> bf16 = losses(options);
  EXPECT_LT(fp8.back(), fp8.front());
  EXPECT_NE(fp8, bf16);
  for (size_t i = 0; i < bf16.size(); ++i) EXPECT_NEAR(fp8[i] / bf16[i], 1, 0.03) << "step " << i;
}

// Of an adapter's base the layers' projections are a byte a number, and nothing of them is kept besides.
TEST(Fp8Step, AnAdaptersBaseIsHeldOnce) {
  const model::DecoderConfig config = fp8_model();
  StepOptions options = fp8_options(DType::kBF16);
  options.lora = LoraSpec{{"all-linear"}, 4, 8, 0, false, "kaiming", "zero"};
  const size_t bf16 = TrainStep(config, options).memory().frozen;
  for (const Recipe recipe : kFp8Recipes) {
    options.fp8 = hybrid(recipe);
    TrainStep step(config, options);
    size_t numbers = 0;
    for (nn::Linear* linear : step.decoder().linears()) {
      EXPECT_FALSE(linear->weight().value.defined());
      numbers += static_cast<size_t>(linear->weight().shape.numel());
    }
    EXPECT_LT(step.memory().frozen, bf16 - numbers + (size_t{4} << 10)) << op::name(recipe);  // scales
  }
}

// What an adapter reads of SwiGLU's and the norms' results is made again; in bf16 on a CPU it is kept.
TEST(Fp8Step, WhatAnAdapterReadsOfNormsAndSwigluIsNotKept) {
  const auto activations = [](int layers, std::optional<Fp8Spec> fp8) {
    model::DecoderConfig config = fp8_model();
    config.num_layers = layers;
    StepOptions options = fp8_options(DType::kBF16, fp8);
    options.lora = LoraSpec{{"all-linear"}, 4, 8, 0, false, "kaiming", "zero"};
    return static_cast<int64_t>(TrainStep(config, options).memory().activations);
  };
  const auto of_layer = [&](std::optional<Fp8Spec> fp8) {
    return (activations(9, fp8) - activations(5, fp8)) / 4;
  };
  const int64_t tokens = 2 * kFp8Length, numbers = 128 + 128 + 256;
  EXPECT_EQ(of_layer({}) - of_layer(hybrid(Recipe::kTensorwise)), tokens * numbers * 2);
}

// What it is loaded from is rounded as a weight that is trained is, in the layers' ends in bf16 too.
TEST(Fp8Step, AnAdaptersBaseIsLoadedFromAFile) {
  const auto weights = io::open_weights(std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/model/qwen2");
  const model::DecoderConfig config = testing::config_of("qwen2");
  for (const int64_t in_bf16 : {0, 1}) {
    StepOptions options = fp8_options(DType::kBF16, hybrid(Recipe::kTensorwise));
    options.fp8->first_in_bf16 = in_bf16;
    options.lora = LoraSpec{{"all-linear"}, 4, 8, 0, false, "kaiming", "zero"};
    Fp8Run adapted(options, config);
    options.lora = {};
    Fp8Run whole(options, config);
    adapted.step.load(*weights), whole.step.load(*weights);
    adapted.fill(1), whole.fill(1);
    EXPECT_EQ(adapted.step.evaluate(2).loss, whole.step.evaluate(2).loss);  // B is zero
  }
}

TEST(Fp8Step, WhatIsKeptForTheBackwardPassIsLess) {
  model::DecoderConfig config = fp8_model();
  config.num_layers = 8, config.max_positions = 1024;
  const auto memory = [&](std::optional<Fp8Spec> fp8) {
    StepOptions o = fp8_options(DType::kBF16, fp8);
    o.sequence_length = 1024;
    return TrainStep(config, o).memory();
  };
  const MemoryUse bf16 = memory({});
  for (const Recipe recipe : kFp8Recipes) {
    const MemoryUse fp8 = memory(hybrid(recipe));
    EXPECT_LT(fp8.activations, bf16.activations) << op::name(recipe);
    EXPECT_GT(fp8.weights, bf16.weights);  // theirs beside those of bf16
    EXPECT_EQ(fp8.gradients + fp8.optimizer, bf16.gradients + bf16.optimizer);
  }
}

std::string fp8_refusal(const StepOptions& options, const model::DecoderConfig& config = fp8_model()) {
  try {
    const TrainStep step(config, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

TEST(Fp8Step, WhatItCannotDoIsNamed) {
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(has(fp8_refusal(fp8_options(DType::kF32, hybrid(Recipe::kTensorwise))), "set bf16: true"));
  StepOptions odd = fp8_options(DType::kBF16, hybrid(Recipe::kBlockwise));
  odd.micro_batch_size = 1;
  EXPECT_TRUE(has(fp8_refusal(odd), "needs a multiple of 128 tokens in a micro-batch, this one has 64"));
  model::DecoderConfig narrow = fp8_model();
  narrow.intermediate_size = 192;
  EXPECT_TRUE(has(fp8_refusal(fp8_options(DType::kBF16, hybrid(Recipe::kBlockwise)), narrow),
                  "model.layers.0.mlp.down_proj.weight is [128, 192]"));
  EXPECT_EQ(fp8_refusal(fp8_options(DType::kBF16, hybrid(Recipe::kTensorwise)), narrow), "none");
  EXPECT_TRUE(
      has(fp8_refusal(fp8_options(DType::kBF16, hybrid(Recipe::kTensorwise)), testing::config_of("mixtral")),
          "experts are not trained in fp8"));
}

#define FLAGSCALE_NEED_FP8() \
  FLAGSCALE_NEED_GPU();      \
  if (!cuda::multiplies_fp8()) GTEST_SKIP() << "not run: this GPU multiplies no fp8 numbers"

// Beside the scalar kernels: where sums differ in their last bits some numbers are rounded to their
// neighbours, an eighth or a quarter away.
TEST(Fp8Step, TwentyStepsOnAGpuAreTheCpus) {
  FLAGSCALE_NEED_FP8();
  for (const Recipe recipe : kFp8Recipes)
    for (const Fp8 format : {Fp8::kE4M3, Fp8::kE5M2}) {
      const Fp8Spec spec{{recipe, format}, 0, 0};
      StepOptions on_cpu = fp8_options(DType::kBF16, spec);
      on_cpu.threads = 0;
      Fp8Run cpu(on_cpu), gpu(fp8_options(DType::kBF16, spec, DeviceKind::kCuda));
      cpu.accumulate(0, true, 1), gpu.accumulate(0, true, 1);
      const double apart = fp8_distance(gpu.gradients(), cpu.gradients());
      RecordProperty(std::string(op::name(recipe)) + "_" + name(format), std::to_string(apart));
      EXPECT_LT(apart, format == Fp8::kE4M3 ? 0.04 : 0.06) << op::name(recipe) << " " << name(format);
      const std::vector<double> want = cpu.train(), got = gpu.train();
      for (size_t i = 0; i < want.size(); ++i)
        EXPECT_NEAR(got[i] / want[i], 1, 1e-2) << op::name(recipe) << " " << name(format) << " step " << i;
    }
}

// The base from a file, both times.
TEST(Fp8Step, AnAdapterOfABaseInFp8OnAGpuIsTheCpus) {
  FLAGSCALE_NEED_FP8();
  const auto weights = io::open_weights(std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/model/qwen2");
  std::vector<std::vector<float>> on_gpu;
  std::vector<double> losses[3];
  for (const int run : {0, 1, 2}) {
    StepOptions options = fp8_options(DType::kBF16, Fp8Spec{{Recipe::kTensorwise, Fp8::kE4M3}, 0, 0},
                                      run == 0 ? DeviceKind::kCpu : DeviceKind::kCuda);
    options.graphs = run == 1;
    options.lora = LoraSpec{{"all-linear"}, 16, 32, 0, false, "gaussian", "gaussian"};
    Fp8Run t(options, testing::config_of("qwen2"));
    t.step.load(*weights);
    losses[run] = t.train();
    if (run > 0) on_gpu.push_back(t.weights());
  }
  for (size_t i = 0; i < losses[0].size(); ++i) EXPECT_NEAR(losses[1][i] / losses[0][i], 1, 1e-2) << i;
  EXPECT_EQ(losses[1], losses[2]);
  EXPECT_EQ(on_gpu[0], on_gpu[1]);
}

TEST(Fp8Step, RepeatsToTheBitOnAGpuByGraphsAndByLaunches) {
  FLAGSCALE_NEED_FP8();
  for (const Recipe recipe : kFp8Recipes) {
    std::vector<std::vector<float>> weights;
    for (const bool graphs : {true, true, false}) {
      StepOptions options = fp8_options(DType::kBF16, hybrid(recipe), DeviceKind::kCuda);
      options.graphs = graphs;
      Fp8Run t(options);
      t.train();
      EXPECT_EQ(t.step.graphs_replayed(), graphs ? 38 : 0);
      weights.push_back(t.weights());
    }
    EXPECT_EQ(weights[0], weights[1]);
    EXPECT_EQ(weights[0], weights[2]);
  }
}

}  // namespace
}  // namespace flagscale::train
