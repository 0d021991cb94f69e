// A request's logits are the same to the bit however it is run, in every format of weights: alone, among 32,
// in chunks, after a prefix hit, after preemption, as rows of speculation; with a LoRA adapter beside others
// too.
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <sstream>

#include "engine/adapters.h"
#include "engine/answer.h"
#include "engine/engine.h"
#include "model/block_weights_test_support.h"

namespace flagscale::engine {
namespace {

const std::string kGoldenFiles = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/",
                  kModels = kGoldenFiles + "model/";
const std::vector<std::string> kModelNames{"qwen3", "qwen2_moe"};  // dense; experts, shared ones too

struct Format {
  std::string name;
  std::function<void(RunnerOptions&)> set;
  io::Encoding blocks = io::Encoding::kPlain;  // of weights that a GGUF file brings so
  bool on_gpu = false;
  bool adapted = false;  // the request has an adapter, and those beside it one of two or none
};

// On a GPU, in one type; tiles for tensor cores where the heads are those of `weights_of`.
void serve_on_gpu(RunnerOptions& o, op::Packing packing) {
  o.device = DeviceKind::kCuda;
  o.weights.packing = packing;
}

// Activations in fp8 too, where the GPU multiplies it.
void serve_fp8_products(RunnerOptions& o) {
  o.device = DeviceKind::kCuda;
  o.weights.fp8 = true, o.weights.compute = op::Compute::kFast;
}

// As `serve` runs what a file holds.
void serve_fast(RunnerOptions& o) {
  o.weights.compute = op::Compute::kFast;
  o.cache = DType::kBF16;
}

const std::vector<Format>& formats() {
  static const std::vector<Format> all{
      {"fp32", [](RunnerOptions& o) { o.weights.packing = op::Packing::kF32; }},
      {"bf16", [](RunnerOptions& o) { o.weights.packing = op::Packing::kBF16; }},
      {"f16", [](RunnerOptions& o) { o.weights.packing = op::Packing::kF16; }},
      {"bf16_cache",
       [](RunnerOptions& o) { o.weights.packing = op::Packing::kBF16, o.cache = DType::kBF16; }},
      {"int8_cache", [](RunnerOptions& o) { o.weights.packing = op::Packing::kF32, o.cache = DType::kI8; }},
      {"bf16_rounded", [](RunnerOptions& o) { o.weights = {op::Packing::kBF16, op::Compute::kBF16, false}; }},
      {"int8_exact", [](RunnerOptions& o) { o.weights.packing = op::Packing::kInt8; }},
      {"int8_integers",
       [](RunnerOptions& o) { o.weights = {op::Packing::kInt8, op::Compute::kInt8, false}; }},
      {"int4_exact", [](RunnerOptions& o) { o.weights.packing = op::Packing::kInt4; }},
      {"int4_32_integers",
       [](RunnerOptions& o) { o.weights = {op::Packing::kQ4_0, op::Compute::kInt8, false}; }},
      {"exact_Q8_0", [](RunnerOptions&) {}, io::Encoding::kQ8_0},
      {"exact_Q4_1", [](RunnerOptions&) {}, io::Encoding::kQ4_1},
      {"exact_Q4_K", [](RunnerOptions&) {}, io::Encoding::kQ4_K},
      {"exact_Q6_K", [](RunnerOptions&) {}, io::Encoding::kQ6_K},
      {"fast_bf16", [](RunnerOptions& o) { o.weights.packing = op::Packing::kBF16, serve_fast(o); }},
      {"fast_int8", [](RunnerOptions& o) { o.weights.packing = op::Packing::kInt8, serve_fast(o); }},
      {"fast_int4", [](RunnerOptions& o) { o.weights.packing = op::Packing::kInt4, serve_fast(o); }},
      {"fast_Q8_0", serve_fast, io::Encoding::kQ8_0},
      {"fast_Q4_0", serve_fast, io::Encoding::kQ4_0},
      {"fast_Q4_1", serve_fast, io::Encoding::kQ4_1},
      {"fast_Q5_0", serve_fast, io::Encoding::kQ5_0},
      {"fast_Q5_1", serve_fast, io::Encoding::kQ5_1},
      {"fast_Q4_K", serve_fast, io::Encoding::kQ4_K},
      {"fast_Q5_K", serve_fast, io::Encoding::kQ5_K},
      {"fast_Q6_K", serve_fast, io::Encoding::kQ6_K},
      {"gpu_fp32", [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kF32); }, io::Encoding::kPlain, true},
      {"gpu_bf16", [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kBF16); }, io::Encoding::kPlain, true},
      {"gpu_int8", [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kInt8); }, io::Encoding::kPlain, true},
      {"gpu_int4", [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kInt4); }, io::Encoding::kPlain, true},
      {"gpu_int4_tiles", [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kInt4); }, io::Encoding::kQ8_0,
       true},
      {"gpu_int4_32", [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kQ4_0); }, io::Encoding::kPlain,
       true},
      {"gpu_fp8", [](RunnerOptions& o) { o.device = DeviceKind::kCuda, o.weights.fp8 = true; },
       io::Encoding::kPlain, true},
      {"gpu_fp8_products", serve_fp8_products, io::Encoding::kPlain, true},
      {"gpu_fp8_products_tiles", serve_fp8_products, io::Encoding::kQ8_0, true},
      {"gpu_fp8_tiles", [](RunnerOptions& o) { o.device = DeviceKind::kCuda, o.weights.fp8 = true; },
       io::Encoding::kQ8_0, true},
      {"gpu_int8_head",
       [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kInt8), o.weights.quantize_lm_head = true; },
       io::Encoding::kPlain, true},
      {"gpu_fp8_head", [](RunnerOptions& o) { serve_fp8_products(o), o.weights.quantize_lm_head = true; },
       io::Encoding::kPlain, true},
      {"gpu_fp8_head_tiles",
       [](RunnerOptions& o) { serve_fp8_products(o), o.weights.quantize_lm_head = true; },
       io::Encoding::kQ8_0, true},
      {"gpu_int8_cache", [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kF32), o.cache = DType::kI8; },
       io::Encoding::kPlain, true},
      {"gpu_int8_cache_tiles",
       [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kBF16), o.cache = DType::kI8; },
       io::Encoding::kQ8_0, true},
      {"bf16_adapted", [](RunnerOptions& o) { o.weights.packing = op::Packing::kBF16; }, io::Encoding::kPlain,
       false, true},
      {"gpu_fp32_adapted", [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kF32); }, io::Encoding::kPlain,
       true, true},
      {"gpu_bf16_adapted", [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kBF16); },
       io::Encoding::kPlain, true, true},
      {"gpu_int8_adapted", [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kInt8); },
       io::Encoding::kPlain, true, true},
      {"gpu_int4_adapted", [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kInt4); },
       io::Encoding::kPlain, true, true},
      {"gpu_fp8_adapted", [](RunnerOptions& o) { o.device = DeviceKind::kCuda, o.weights.fp8 = true; },
       io::Encoding::kPlain, true, true},
      {"gpu_fp8_products_adapted", serve_fp8_products, io::Encoding::kPlain, true, true},
      {"gpu_bf16_tiles", [](RunnerOptions& o) { serve_on_gpu(o, op::Packing::kBF16); }, io::Encoding::kQ8_0,
       true},
  };
  return all;
}

class Bitwise : public ::testing::TestWithParam<std::tuple<size_t, size_t>> {  // of kModelNames, of formats()
 protected:
  static constexpr int kOutput = 40;

  Engine make(const std::function<void(RunnerOptions&)>& change = {}, EngineOptions engine_options = {}) {
    const std::string model = kModels + kModelNames[std::get<0>(GetParam())];
    std::ostringstream text;
    text << std::ifstream(model + "/config.json").rdbuf();
    model::DecoderConfig config = model::parse_config(text.str());
    config.max_positions = 256;
    RunnerOptions options;
    options.max_tokens = 256;
    options.max_sequences = 32;
    options.max_length = 160;
    options.threads = 1;
    const Format& format = formats()[std::get<1>(GetParam())];
    format.set(options);
    if (format.adapted) options.max_adapters = 2, options.max_adapter_rank = 8;
    if (change) change(options);
    const auto weights = weights_of(format, model, config);
    auto runner = std::make_unique<Runner>(config, *weights, options);
    for (const char* name : {"one", "two"})
      if (format.adapted) runner->adapters()->load(name, adapter_of(name));
    return Engine(std::move(runner), engine_options);
  }

  static std::string adapter_of(const std::string& name) {
    const std::string& model = kModelNames[std::get<0>(GetParam())];
    if (model != "qwen3") return kGoldenFiles + "train/lora/experts/" + model;  // twice, in two places
    return kGoldenFiles + "lora/" + (name == "one" ? "all" : "rslora");
  }
  static bool adapted() { return formats()[std::get<1>(GetParam())].adapted; }

  // Blocks of 256 do not fit the rows of 64 that the other formats are run with.
  static std::unique_ptr<io::WeightSet> weights_of(const Format& format, const std::string& model,
                                                   model::DecoderConfig& config) {
    if (format.blocks == io::Encoding::kPlain) return io::open_weights(model);
    config.hidden_size = config.intermediate_size = 256;
    config.head_dim = 64;
    if (config.moe.experts > 0) config.moe.size = config.moe.shared_size = 128;
    nn::Partition partition;
    model::Decoder decoder(config, partition);
    return std::make_unique<model::BlockWeights>(decoder, format.blocks);
  }

  // 70 tokens with repetitions, so that guesses are made; each token's whole distribution is told.
  static Request request() {
    Request request;
    for (int32_t i = 0; i < 70; ++i) request.prompt.push_back(3 + (i * i + i / 9) % 41);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = kOutput;
    request.sampling.logprobs = 100;
    request.sampling.prompt_logprobs = 100;
    if (adapted()) request.adapter = "one";
    return request;
  }

  static Answer run(Engine& engine, const Request& request) {
    Answer answer;
    engine.add(request, gather_into(answer));
    while (engine.step()) {
    }
    EXPECT_EQ(engine.pool().held_pages(), 0);
    return answer;
  }

  static void expect_equal(const std::vector<OutputToken>& a, const std::vector<OutputToken>& b,
                           const char* how) {
    ASSERT_EQ(a.size(), b.size()) << how;
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_EQ(a[i].id, b[i].id) << how << " token " << i;
      ASSERT_EQ(a[i].logprob, b[i].logprob) << how << " token " << i;
      for (size_t j = 0; j < a[i].best.size(); ++j)
        ASSERT_TRUE(a[i].best[j].id == b[i].best[j].id && a[i].best[j].logprob == b[i].best[j].logprob)
            << how << " token " << i;
    }
  }
  void expect_same(const Answer& answer, const char* how) {
    expect_equal(answer.tokens, alone.tokens, how);
    if (!answer.prompt.empty()) expect_equal(answer.prompt, alone.prompt, how);
  }

  void SetUp() override {
    if (formats()[std::get<1>(GetParam())].on_gpu && choose_device("auto") != DeviceKind::kCuda)
      GTEST_SKIP() << "this machine has no GPU, or this program no kernels for it";
    Engine engine = make();
    alone = run(engine, request());
    ASSERT_EQ(alone.tokens.size(), static_cast<size_t>(kOutput));
    ASSERT_EQ(alone.prompt.size(), 69u);
  }
  Answer alone;
};

TEST_P(Bitwise, AmongThirtyTwoMixedRequests) {
  Engine engine = make();
  for (int32_t i = 0; i < 31; ++i) {
    Request other;
    for (int32_t j = 0; j <= i * 3; ++j) other.prompt.push_back((i * 17 + j * 5) % 100);
    other.sampling.max_tokens = 5 + i;
    other.sampling.seed = static_cast<uint64_t>(i);
    if (adapted() && i % 3 > 0) other.adapter = i % 3 == 1 ? "one" : "two";
    engine.add(other, [](const Event&) {});
    if (i % 8 == 7) engine.step();
  }
  expect_same(run(engine, request()), "among 32");
}

TEST_P(Bitwise, InChunksOfAnySize) {
  for (const int64_t budget : {1, 3, 16, 33}) {
    Engine engine = make([&](RunnerOptions& o) { o.max_tokens = budget; });
    expect_same(run(engine, request()), "in chunks");
  }
}

TEST_P(Bitwise, AfterAPrefixHit) {
  Engine engine = make();
  Request plain = request();
  plain.sampling.prompt_logprobs = -1;  // those would compute the prompt again
  Request shorter = plain;
  shorter.prompt.resize(40);
  run(engine, shorter);
  const Answer part = run(engine, plain), whole = run(engine, plain);
  EXPECT_EQ(part.cached_tokens, 32);
  EXPECT_EQ(whole.cached_tokens, 64);
  expect_same(part, "after a part of it");
  expect_same(whole, "after itself");
}

TEST_P(Bitwise, AfterPreemption) {
  for (const bool caching : {true, false}) {
    EngineOptions options;
    options.prefix_caching = caching;
    Engine engine =
        make([](RunnerOptions& o) { o.pages = 10; }, options);  // 160 tokens: two of these do not fit
    Request other = request();
    other.prompt.resize(30);
    other.sampling.max_tokens = 100;
    if (adapted()) other.adapter = "two";
    engine.add(other, [](const Event&) {});
    expect_same(run(engine, request()), "after preemption");
    EXPECT_GT(engine.stats().preemptions, 0);
  }
}

TEST_P(Bitwise, AsRowsOfSpeculation) {
  EngineOptions options;
  options.speculation = {4, 3, 1};
  Engine engine = make({}, options);
  expect_same(run(engine, request()), "with speculation");
  if (std::get<0>(GetParam()) == 0) {  // experts repeat themselves less
    EXPECT_GT(engine.stats().accepted_tokens, 0);
  }
  Request sampled = request();
  sampled.sampling.temperature = 1.5f;
  sampled.sampling.seed = 3;
  Engine plain = make();
  expect_equal(run(engine, sampled).tokens, run(plain, sampled).tokens, "sampled");
  EXPECT_GT(engine.stats().draft_tokens, engine.stats().accepted_tokens);
}

// Experts are not run with GGUF's blocks on a CPU: packed_linear_test compares each of theirs with its own
// product.
std::vector<std::tuple<size_t, size_t>> cases() {
  std::vector<std::tuple<size_t, size_t>> all;
  for (size_t model = 0; model < kModelNames.size(); ++model)
    for (size_t format = 0; format < formats().size(); ++format)
      if (model == 0 || formats()[format].on_gpu || formats()[format].blocks == io::Encoding::kPlain)
        all.emplace_back(model, format);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Formats, Bitwise, ::testing::ValuesIn(cases()), [](const auto& test) {
  return kModelNames[std::get<0>(test.param)] + "_" + formats()[std::get<1>(test.param)].name;
});

}  // namespace
}  // namespace flagscale::engine
