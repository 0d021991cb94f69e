// A GPU's answers are the CPU's: in fp32 the same greedy tokens and logits to rounding, in bf16 as near as
// bf16 is. What has no kernel there is refused by name. Without a GPU only the refusals of one are tested.
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "engine/adapters.h"
#include "engine/answer.h"
#include "engine/engine.h"
#include "model/config_at.h"

namespace flagscale::engine::gpu_test {
namespace {

const std::string kModels = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/model/";

model::DecoderConfig config_of(const std::string& model) { return model::config_of_folder(kModels + model); }

// packing: none is fp8.
RunnerOptions options_of(DeviceKind device, std::optional<op::Packing> packing,
                         op::Compute compute = op::Compute::kExact) {
  RunnerOptions options;
  options.weights.compute = compute;
  options.device = device;
  options.weights.packing = packing;
  options.weights.fp8 = !packing;
  options.max_tokens = 64, options.max_sequences = 4, options.max_length = 100, options.threads = 2;
  return options;
}

std::unique_ptr<Runner> runner_of(const std::string& model, const RunnerOptions& options) {
  return std::make_unique<Runner>(config_of(model), *io::open_weights(kModels + model), options);
}

bool has_gpu() { return choose_device("auto") == DeviceKind::kCuda; }

class OnGpu : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "this machine has no GPU, or this program no kernels for it";
  }
  Answer run(DeviceKind device, std::optional<op::Packing> packing, int logprobs = 0,
             op::Compute compute = op::Compute::kExact) const {
    Engine engine(runner_of(GetParam(), options_of(device, packing, compute)));
    Request request;
    for (int32_t i = 0; i < 50; ++i) request.prompt.push_back(3 + (i * i + i / 9) % 41);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = 40;
    request.sampling.logprobs = request.sampling.prompt_logprobs = logprobs;
    Answer answer;
    engine.add(request, gather_into(answer));
    while (engine.step()) {
    }
    return answer;
  }
  std::vector<float> embedding(DeviceKind device, op::Packing packing) const {
    const auto runner = runner_of(GetParam(), options_of(device, packing));
    const std::vector<int32_t> ids{5, 9, 40, 41, 42, 3, 8}, pages{1};
    StepChunk chunk;
    chunk.ids = ids, chunk.pages = &pages, chunk.embed = true;
    runner->run({&chunk, 1});
    const auto values = runner->embedding(0);
    return {values.begin(), values.end()};
  }
};

double furthest(const std::vector<OutputToken>& a, const std::vector<OutputToken>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i)
    most = std::max(most, std::fabs(static_cast<double>(a[i].logprob) - static_cast<double>(b[i].logprob)));
  return most;
}

TEST_P(OnGpu, Fp32GivesTheCpusTokens) {
  const Answer cpu = run(DeviceKind::kCpu, op::Packing::kF32),
               gpu = run(DeviceKind::kCuda, op::Packing::kF32);
  ASSERT_EQ(gpu.tokens.size(), cpu.tokens.size());
  for (size_t i = 0; i < cpu.tokens.size(); ++i) ASSERT_EQ(gpu.tokens[i].id, cpu.tokens[i].id) << i;
  EXPECT_LT(furthest(gpu.tokens, cpu.tokens), 1e-4);
  EXPECT_LT(furthest(gpu.prompt, cpu.prompt), 1e-4);
}

// The GPU finds the likeliest token itself where nothing else is wanted.
TEST_P(OnGpu, WithoutLogitsTheTokensAreTheSame) {
  const Answer with = run(DeviceKind::kCuda, op::Packing::kBF16),
               without = run(DeviceKind::kCuda, op::Packing::kBF16, -1);
  ASSERT_EQ(without.tokens.size(), with.tokens.size());
  for (size_t i = 0; i < with.tokens.size(); ++i) ASSERT_EQ(without.tokens[i].id, with.tokens[i].id) << i;
}

Request sampled(int32_t first, uint64_t seed) {
  Request request;
  for (int32_t i = 0; i < 30; ++i) request.prompt.push_back(3 + (i * i + first) % 41);
  request.sampling.temperature = 0.8f;
  request.sampling.max_tokens = 30;
  request.sampling.seed = seed;
  return request;
}

std::vector<int32_t> ids_of(const Answer& answer) {
  std::vector<int32_t> ids;
  for (const OutputToken& token : answer.tokens) ids.push_back(token.id);
  return ids;
}

std::vector<int32_t> alone(const std::string& model, DeviceKind device, const Request& request) {
  Engine engine(runner_of(model, options_of(device, op::Packing::kF32)));
  Answer answer;
  engine.add(request, gather_into(answer));
  while (engine.step()) {
  }
  return ids_of(answer);
}

// In order of columns, as the CPU draws where neither top_k nor top_p sort.
TEST_P(OnGpu, ASeedDrawsTheCpusTokens) {
  for (const uint64_t seed : {1, 2, 3})
    EXPECT_EQ(alone(GetParam(), DeviceKind::kCuda, sampled(0, seed)),
              alone(GetParam(), DeviceKind::kCpu, sampled(0, seed)));
}

// Rows that the GPU draws from lie among rows whose logits go to the host.
TEST_P(OnGpu, SampledTokensAreTheSameWhoeverElseIsInTheStep) {
  std::vector<Request> requests;
  for (int32_t i = 0; i < 4; ++i) requests.push_back(sampled(i * 5, static_cast<uint64_t>(i)));
  requests[1].sampling.logprobs = 2;
  requests[2].sampling.top_p = 0.9f, requests[2].sampling.top_k = 20;
  requests[3].sampling.frequency_penalty = 0.5f;
  Engine engine(runner_of(GetParam(), options_of(DeviceKind::kCuda, op::Packing::kF32)));
  std::vector<Answer> answers(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) engine.add(requests[i], gather_into(answers[i]));
  while (engine.step()) {
  }
  for (size_t i = 0; i < requests.size(); ++i)
    EXPECT_EQ(ids_of(answers[i]), alone(GetParam(), DeviceKind::kCuda, requests[i])) << i;
}

// The CPU rounds weights alone to bf16, a GPU activations too.
TEST_P(OnGpu, Bf16StaysNearTheCpu) {
  const Answer cpu = run(DeviceKind::kCpu, op::Packing::kBF16),
               gpu = run(DeviceKind::kCuda, op::Packing::kBF16);
  ASSERT_EQ(gpu.prompt.size(), cpu.prompt.size());
  EXPECT_LT(furthest(gpu.prompt, cpu.prompt), 0.1);
}

// Eight and four bits a weight: of int8 the CPU's own are as near, fp8 is coarser; int4 is beside the CPU's,
// whose embedding and head have eight bits. In a mixture rounding may change which experts a token has.
class NarrowOnGpu : public OnGpu {};
TEST_P(NarrowOnGpu, NarrowWeightsStayNearTheCpu) {
  const Answer cpu = run(DeviceKind::kCpu, op::Packing::kF32),
               int8 = run(DeviceKind::kCuda, op::Packing::kInt8), fp8 = run(DeviceKind::kCuda, std::nullopt);
  ASSERT_EQ(int8.prompt.size(), cpu.prompt.size());
  EXPECT_LT(furthest(int8.prompt, cpu.prompt), config_of(GetParam()).moe.experts > 0 ? 1 : 0.4);
  EXPECT_LT(furthest(fp8.prompt, cpu.prompt), 1.2);
  EXPECT_GT(furthest(fp8.prompt, int8.prompt), 0);
  const Answer products = run(DeviceKind::kCuda, std::nullopt, 0, op::Compute::kFast);
  EXPECT_LT(furthest(products.prompt, cpu.prompt), 2);
  EXPECT_EQ(furthest(products.prompt, fp8.prompt) > 0, cuda::multiplies_fp8());
  for (const op::Packing packing : {op::Packing::kInt4, op::Packing::kQ4_0}) {
    const Answer packed = run(DeviceKind::kCpu, packing), narrow = run(DeviceKind::kCuda, packing);
    EXPECT_LT(furthest(narrow.prompt, packed.prompt), config_of(GetParam()).moe.experts > 0 ? 1 : 0.4);
    EXPECT_GT(furthest(narrow.prompt, int8.prompt), 0);
  }
}

// The head in eight bits too: as the CPU's in int8, whose embedding has them as well.
TEST_P(NarrowOnGpu, AQuantisedHeadStaysNear) {
  const auto answer = [](RunnerOptions options, bool head) {
    options.weights.quantize_lm_head = head;
    Engine engine(runner_of(GetParam(), options));
    Request request = sampled(0, 1);
    request.sampling.temperature = 0, request.sampling.logprobs = request.sampling.prompt_logprobs = 0;
    Answer result;
    engine.add(request, gather_into(result));
    while (engine.step()) {
    }
    return result;
  };
  for (const auto& [packing, compute] : {std::pair{std::optional(op::Packing::kInt8), op::Compute::kExact},
                                         {std::optional(op::Packing::kInt4), op::Compute::kExact},
                                         {std::optional<op::Packing>(), op::Compute::kExact},
                                         {std::optional<op::Packing>(), op::Compute::kFast}}) {
    const RunnerOptions options = options_of(DeviceKind::kCuda, packing, compute);
    const Answer without = answer(options, false), with = answer(options, true);
    ASSERT_EQ(with.prompt.size(), without.prompt.size());
    EXPECT_LT(furthest(with.prompt, without.prompt), packing ? 0.2 : 1);
    EXPECT_GT(furthest(with.prompt, without.prompt), 0);
  }
}

TEST_P(OnGpu, EmbeddingsAreTheCpus) {
  for (const auto packing : {op::Packing::kF32, op::Packing::kBF16}) {
    const auto cpu = embedding(DeviceKind::kCpu, packing), gpu = embedding(DeviceKind::kCuda, packing);
    ASSERT_EQ(gpu.size(), cpu.size());
    for (size_t i = 0; i < cpu.size(); ++i)
      ASSERT_NEAR(gpu[i], cpu[i], packing == op::Packing::kF32 ? 1e-4 : 0.1) << i;
  }
}

// Dense, and adapters of experts.
TEST(AdaptersOnGpu, Fp32GivesTheCpusTokens) {
  if (!has_gpu()) GTEST_SKIP() << "this machine has no GPU, or this program no kernels for it";
  const std::string goldens = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/";
  for (const auto& [model, folder] : {std::pair<std::string, std::string>{"qwen3", "lora/all"},
                                      {"qwen2_moe", "train/lora/experts/qwen2_moe"},
                                      {"mixtral", "train/lora/experts/mixtral"}}) {
    const auto answer = [&](DeviceKind device, const std::string& adapter) {
      RunnerOptions options = options_of(device, op::Packing::kF32);
      options.max_adapters = 2, options.max_adapter_rank = 8;
      auto runner = runner_of(model, options);
      runner->adapters()->load("one", goldens + folder);
      Engine engine(std::move(runner));
      Request request = sampled(0, 1);
      request.sampling.temperature = 0, request.sampling.logprobs = 0, request.sampling.max_tokens = 60;
      request.adapter = adapter;
      Answer result;
      engine.add(request, gather_into(result));
      while (engine.step()) {
      }
      return result;
    };
    const Answer cpu = answer(DeviceKind::kCpu, "one"), gpu = answer(DeviceKind::kCuda, "one"),
                 base = answer(DeviceKind::kCuda, "");
    EXPECT_EQ(ids_of(gpu), ids_of(cpu)) << model;
    EXPECT_LT(furthest(gpu.tokens, cpu.tokens), 1e-4) << model;
    EXPECT_GT(furthest(gpu.tokens, base.tokens), 1e-3) << model;
  }
}

const auto kDense =
    ::testing::Values("aquila", "llama2", "llama3", "llama3_1", "llama3_2", "llama_bias", "qwq", "qwen2_yarn",
                      "qwen3_bias", "qwen3_tied", "mistral", "qwen2", "qwen2_tied", "qwen2_window", "qwen3");
const auto name_of = [](const auto& test) { return std::string(test.param); };
INSTANTIATE_TEST_SUITE_P(Models, OnGpu, kDense, name_of);
INSTANTIATE_TEST_SUITE_P(Models, NarrowOnGpu, kDense, name_of);
const auto kMixtures = ::testing::Values("mixtral", "qwen2_moe", "qwen2_moe_dense", "qwen3_moe");
INSTANTIATE_TEST_SUITE_P(Mixtures, OnGpu, kMixtures, name_of);
INSTANTIATE_TEST_SUITE_P(Mixtures, NarrowOnGpu, kMixtures, name_of);

std::string refusal(const std::string& model, const RunnerOptions& options) {
  try {
    runner_of(model, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

TEST(Gpu, WhatHasNoKernelIsRefusedByName) {
  if (!has_gpu()) {
    EXPECT_NE(refusal("qwen3", options_of(DeviceKind::kCuda, op::Packing::kF32)).find("device cuda"),
              std::string::npos);
    return;
  }
  const auto expect = [](const std::string& model, const std::string& word, auto&& change) {
    RunnerOptions options = options_of(DeviceKind::kCuda, op::Packing::kF32);
    change(options);
    const std::string text = refusal(model, options);
    EXPECT_NE(text.find(word), std::string::npos) << text;
  };
  expect("qwen3", "float16", [](RunnerOptions& o) { o.weights.packing = op::Packing::kF16; });
  expect("qwen3", "gpu_memory_utilization", [](RunnerOptions& o) { o.memory_share = 0.001; });
}

}  // namespace
}  // namespace flagscale::engine::gpu_test
