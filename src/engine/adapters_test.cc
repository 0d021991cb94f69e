// Adapters of PEFT over the tiny qwen3 (tests/oracle/model/make_lora.py), in batches, caches and services.
#include "engine/adapters.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <future>
#include <numeric>
#include <random>
#include <sstream>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "engine/answer.h"
#include "engine/service.h"

namespace flagscale::engine {
namespace {

namespace fs = std::filesystem;

const std::string kGoldens = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/";
const std::string kQwen3 = kGoldens + "model/qwen3", kLora = kGoldens + "lora/";

std::string read_text(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::unique_ptr<Runner> make_runner(const std::string& base = kQwen3,
                                    const std::function<void(RunnerOptions&)>& change = {}) {
  RunnerOptions options;
  options.max_tokens = 64;
  options.max_sequences = 8;
  options.max_length = 96;
  options.threads = 2;
  options.max_adapters = 3;
  options.max_adapter_rank = 8;
  if (change) change(options);
  return std::make_unique<Runner>(model::parse_config(read_text(base + "/config.json")),
                                  *io::open_weights(base), options);
}

// Where this program may run; the CPU is one of them.
std::vector<DeviceKind> devices() {
  const DeviceKind best = choose_device("auto");
  return best == DeviceKind::kCpu ? std::vector{best} : std::vector{DeviceKind::kCpu, best};
}
auto in_fp32(DeviceKind device) {
  return [device](RunnerOptions& o) { o.device = device, o.weights.packing = op::Packing::kF32; };
}

TEST(Adapters, LogitsArePefts) {
  const auto oracle = io::open_weights(kLora + "oracle.safetensors");
  std::vector<int64_t> wide(24);
  oracle->read("input_ids", 0, 24, DType::kI64, std::as_writable_bytes(std::span(wide)));
  const std::vector<int32_t> ids(wide.begin(), wide.end());
  std::vector<int32_t> pages(2);
  std::iota(pages.begin(), pages.end(), 0);
  for (const DeviceKind device : devices()) {
    const auto runner = make_runner(kQwen3, in_fp32(device));
    for (const std::string name : {"all", "rslora", "zero"}) {
      StepChunk chunk;
      chunk.ids = ids;
      chunk.pages = &pages;
      chunk.rows = 24;
      const auto adapter = runner->adapters()->load(name, kLora + name);
      chunk.adapter = adapter->slot;
      runner->run({&chunk, 1});
      const std::vector<float> expected = oracle->read_f32(name);
      float most = 0, error = 0;
      for (size_t i = 0; i < expected.size(); ++i) {
        const int64_t vocab = runner->config().vocab_size, at = static_cast<int64_t>(i);
        error = std::max(error,
                         std::fabs(runner->logits(at / vocab)[i % static_cast<size_t>(vocab)] - expected[i]));
        most = std::max(most, std::fabs(expected[i]));
      }
      EXPECT_LT(error / most, 1e-5) << name;
    }
  }
}

TEST(Adapters, LogitsWithAdaptersOfExpertsArePefts) {
  const std::vector<std::string> names{"mixtral", "qwen3_moe", "qwen2_moe"};
  for (size_t run = 0; run < names.size() * devices().size(); ++run) {
    const std::string& name = names[run % names.size()];
    const DeviceKind device = devices()[run / names.size()];
    SCOPED_TRACE(name + " on " + flagscale::name(device));
    const std::string folder = kGoldens + "train/lora/experts/" + name;
    const auto oracle = io::open_weights(folder + "/oracle.safetensors");
    std::vector<int64_t> wide(24);
    oracle->read("input_ids", 0, 24, DType::kI64, std::as_writable_bytes(std::span(wide)));
    std::vector<int32_t> ids(wide.begin(), wide.end()), pages(2), others(2);
    std::iota(pages.begin(), pages.end(), 0);
    std::iota(others.begin(), others.end(), 2);
    const auto runner = make_runner(kGoldens + "model/" + name, in_fp32(device));
    std::vector<StepChunk> chunks(2);  // with the adapter and without
    for (StepChunk& chunk : chunks) chunk.ids = ids, chunk.rows = 24;
    chunks[0].pages = &pages, chunks[1].pages = &others;
    runner->run(chunks);
    const int64_t vocab = runner->config().vocab_size;
    const std::vector<float> plain(runner->logits(24).begin(), runner->logits(24).end());
    chunks[0].adapter = runner->adapters()->load(name, folder)->slot;
    runner->run(chunks);
    const std::vector<float> expected = oracle->read_f32("logits");
    float most = 0, error = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const auto at = static_cast<int64_t>(i);
      error = std::max(error,
                       std::fabs(runner->logits(at / vocab)[i % static_cast<size_t>(vocab)] - expected[i]));
      most = std::max(most, std::fabs(expected[i]));
    }
    EXPECT_LT(error / most, 1e-5);
    EXPECT_TRUE(std::ranges::equal(plain, runner->logits(24))) << "beside it, to the bit";
  }
}

Request request_of(const std::string& adapter, int32_t seed = 0, int max_tokens = 12) {
  Request request;
  for (int32_t i = 0; i < 40; ++i) request.prompt.push_back(3 + (i * i + seed) % 41);
  request.sampling.temperature = 0;
  request.sampling.max_tokens = max_tokens;
  request.sampling.logprobs = 100;
  request.adapter = adapter;
  return request;
}

void run_to_end(Engine& engine) {
  while (engine.step()) {
  }
  EXPECT_EQ(engine.pool().held_pages(), 0);
}

Answer run(Engine& engine, const Request& request) {
  Answer answer;
  engine.add(request, gather_into(answer));
  run_to_end(engine);
  return answer;
}

// Whether every token's whole distribution is the same to the bit.
bool same(const Answer& a, const Answer& b) {
  if (a.ids() != b.ids()) return false;
  for (size_t i = 0; i < a.tokens.size(); ++i)
    for (size_t j = 0; j < a.tokens[i].best.size(); ++j)
      if (a.tokens[i].best[j].id != b.tokens[i].best[j].id ||
          a.tokens[i].best[j].logprob != b.tokens[i].best[j].logprob)
        return false;
  return true;
}

struct AdapterFormat {
  std::string name;
  std::function<void(RunnerOptions&)> set;
  bool on_gpu = false;
};
AdapterFormat on_gpu(const std::string& name, const WeightOptions& weights) {
  return {"gpu_" + name, [weights](RunnerOptions& o) { o.device = DeviceKind::kCuda, o.weights = weights; },
          true};
}
const std::vector<AdapterFormat>& adapter_formats() {
  static const std::vector<AdapterFormat> all{
      {"fp32", [](RunnerOptions& o) { o.weights.packing = op::Packing::kF32; }},
      {"bf16", [](RunnerOptions& o) { o.weights = {op::Packing::kBF16, op::Compute::kFast, false}; }},
      {"int8", [](RunnerOptions& o) { o.weights = {op::Packing::kInt8, op::Compute::kInt8, false}; }},
      {"int4", [](RunnerOptions& o) { o.weights = {op::Packing::kQ4_0, op::Compute::kExact, false}; }},
      on_gpu("fp32", {op::Packing::kF32, op::Compute::kExact, false}),
      on_gpu("bf16", {op::Packing::kBF16, op::Compute::kFast, false}),
      on_gpu("int8", {op::Packing::kInt8, op::Compute::kFast, false}),
      on_gpu("int4", {op::Packing::kQ4_0, op::Compute::kExact, false}),
      on_gpu("fp8", {std::nullopt, op::Compute::kExact, false, true}),
      on_gpu("fp8_products", {std::nullopt, op::Compute::kFast, false, true}),
  };
  return all;
}

class AdaptersOver : public ::testing::TestWithParam<size_t> {
 protected:
  void SetUp() override {
    if (adapter_formats()[GetParam()].on_gpu && devices().size() < 2)
      GTEST_SKIP() << "this machine has no GPU, or this program no kernels for it";
    engine = std::make_unique<Engine>(make_runner(kQwen3, adapter_formats()[GetParam()].set));
    for (const std::string name : {"all", "rslora", "zero"})
      engine->runner().adapters()->load(name, kLora + name);
  }
  std::unique_ptr<Engine> engine;
};

TEST_P(AdaptersOver, AreTheSameToTheBitAloneAndInAMixedBatch) {
  const std::vector<std::string> names{"", "all", "rslora", "zero", "all", ""};
  std::vector<Answer> alone, mixed(names.size());
  for (size_t i = 0; i < names.size(); ++i)
    alone.push_back(run(*engine, request_of(names[i], static_cast<int32_t>(i))));
  Engine other(make_runner(kQwen3, [](RunnerOptions& o) {
    adapter_formats()[GetParam()].set(o);
    o.max_tokens = 37;  // prompts in chunks, beside others
  }));
  for (const std::string name : {"zero", "rslora", "all"})  // in other slots
    other.runner().adapters()->load(name, kLora + name);
  for (size_t i = 0; i < names.size(); ++i)
    other.add(request_of(names[i], static_cast<int32_t>(i)), gather_into(mixed[i]));
  run_to_end(other);
  for (size_t i = 0; i < names.size(); ++i) EXPECT_TRUE(same(mixed[i], alone[i])) << i << names[i];
}

TEST_P(AdaptersOver, ChangeTheAnswerAndAZeroOneDoesNot) {
  const Answer base = run(*engine, request_of(""));
  EXPECT_TRUE(same(run(*engine, request_of("zero")), base));
  EXPECT_FALSE(same(run(*engine, request_of("all")), base));
  Engine without(make_runner(kQwen3, [](RunnerOptions& o) {
    adapter_formats()[GetParam()].set(o);
    o.max_adapters = 0;
  }));
  EXPECT_TRUE(same(run(without, request_of("")), base));
}

INSTANTIATE_TEST_SUITE_P(Formats, AdaptersOver, ::testing::Range(size_t{0}, adapter_formats().size()),
                         [](const auto& test) { return adapter_formats()[test.param].name; });

TEST(Adapters, PrefixesAreSharedUnderOneAdapterOnly) {
  for (const DeviceKind device : devices()) {
    Engine engine(make_runner(kQwen3, in_fp32(device)));
    Adapters& adapters = *engine.runner().adapters();
    adapters.load("one", kLora + "all");
    const Answer first = run(engine, request_of("one")), second = run(engine, request_of("one"));
    EXPECT_EQ(first.cached_tokens, 0);
    EXPECT_EQ(second.cached_tokens, 32);
    EXPECT_TRUE(same(first, second));
    EXPECT_EQ(run(engine, request_of("")).cached_tokens, 0);
    adapters.unload("one");
    adapters.load("one", kLora + "rslora");  // another adapter under the old name
    const Answer other = run(engine, request_of("one"));
    EXPECT_EQ(other.cached_tokens, 0);
    EXPECT_FALSE(same(other, first));
  }
}

TEST(Adapters, UnloadingWaitsForWhatRuns) {
  for (const DeviceKind device : devices()) {
    Engine engine(make_runner(kQwen3, in_fp32(device)));
    Adapters& adapters = *engine.runner().adapters();
    adapters.load("one", kLora + "all");
    const Answer expected = run(engine, request_of("one"));
    Answer answer;
    engine.add(request_of("one"), gather_into(answer));
    for (int i = 0; i < 4; ++i) engine.step();
    bool gone = false;
    adapters.unload("one", [&] { gone = true; });
    EXPECT_FALSE(gone);
    EXPECT_EQ(adapters.find("one"), nullptr);
    EXPECT_EQ(adapters.in_use(), 1);
    EXPECT_THROW(engine.add(request_of("one"), [](const Event&) {}), Error);
    EXPECT_THROW(adapters.unload("one"), Error);
    adapters.load("one", kLora + "rslora");  // into another slot: what runs is not touched
    run_to_end(engine);
    EXPECT_TRUE(gone);
    EXPECT_TRUE(same(answer, expected));
    EXPECT_EQ(adapters.in_use(), 1);
    adapters.unload("one", [&] { gone = false; });
    EXPECT_FALSE(gone);
    EXPECT_EQ(adapters.in_use(), 0);
  }
}

// An adapter in a folder of its own whose configuration is changed.
struct Changed : TemporaryFolder {
  explicit Changed(const std::string& from) {
    for (const char* file : {"adapter_config.json", "adapter_model.safetensors"})
      fs::copy_file(kLora + from + "/" + file, fs::path(path) / file);
  }
  // A tensor's name in the weights' header, padded to what it was.
  void rename(const std::string& old, const std::string& with) const {
    std::string text = read_text(path + "/adapter_model.safetensors");
    for (size_t at = 0; (at = text.find(old, at)) != std::string::npos;) {
      text.replace(at, old.size(), with);
      const size_t end = text.find('"', at) + 1;
      text.insert(end, old.size() - with.size(), ' ');
    }
    std::ofstream(path + "/adapter_model.safetensors", std::ios::binary) << text;
  }
  void replace(const std::string& old, const std::string& with) const {
    std::string text = read_text(path + "/adapter_config.json");
    const size_t at = text.find(old);
    ASSERT_NE(at, std::string::npos) << old;
    std::ofstream(path + "/adapter_config.json") << text.replace(at, old.size(), with);
  }
};

std::string refusal(Adapters& adapters, const std::string& folder) {
  try {
    adapters.load("x", folder);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Adapters, RefusesWhatItWouldNotApply) {
  const auto runner = make_runner();
  Adapters& adapters = *runner->adapters();
  const std::vector<std::array<std::string, 3>> cases{
      {"\"use_dora\": false", "\"use_dora\": true", "DoRA"},
      {"\"bias\": \"none\"", "\"bias\": \"all\"", "bias"},
      {"\"lora_bias\": false", "\"lora_bias\": true", "lora_bias"},
      {"\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]", "modules_to_save"},
      {"\"peft_type\": \"LORA\"", "\"peft_type\": \"IA3\"", "IA3"},
      {"\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa_niter_4\"", "pissa"},
      {"\"trainable_token_indices\": null", "\"trainable_token_indices\": [1]", "trainable_token_indices"},
      {"\"r\": 4", "\"r\": 5", "rank"},
      {"\"r\": 4", "\"r\": -4", "r must be"},
      {"\"lora_alpha\": 8", "\"lora_alpha\": \"8\"", "lora_alpha"},
      {"\"alpha_pattern\": {}", "\"alpha_pattern\": {\".*q\": 3}", "alpha_pattern"},
      {"{", "", "JSON"}};
  for (const auto& [old, with, told] : cases) {
    const Changed changed("all");
    changed.replace(old, with);
    EXPECT_NE(refusal(adapters, changed.path).find(told), std::string::npos)
        << with << ": " << refusal(adapters, changed.path);
  }
  const Changed missing("all");
  fs::remove(missing.path + "/adapter_model.safetensors");
  EXPECT_NE(refusal(adapters, missing.path).find("adapter_model.safetensors"), std::string::npos);
  std::ofstream(missing.path + "/adapter_model.safetensors") << "not what it says";
  EXPECT_NE(refusal(adapters, missing.path), "");
  EXPECT_NE(refusal(adapters, kQwen3).find("adapter_config.json"), std::string::npos);
  EXPECT_EQ(adapters.in_use(), 0);
  const Changed head("all");
  head.rename(".layers.0.self_attn.q_proj.", ".lm_head.");
  EXPECT_NE(refusal(adapters, head.path).find("adapters of lm_head are not supported"), std::string::npos)
      << refusal(adapters, head.path);
  const Changed deep("all");
  deep.rename(".layers.0.self_attn.q_proj.", ".layers.9.self_attn.q_proj.");
  EXPECT_NE(refusal(adapters, deep.path).find("layers.9.self_attn.q_proj: this model has no such projection"),
            std::string::npos)
      << refusal(adapters, deep.path);
  const auto mixture = make_runner(kGoldens + "model/qwen3_moe");
  EXPECT_NE(refusal(*mixture->adapters(), kLora + "all").find("this model has experts there (model.layers."),
            std::string::npos)
      << refusal(*mixture->adapters(), kLora + "all");
  const auto narrow = make_runner(kQwen3, [](RunnerOptions& o) { o.max_adapter_rank = 2; });
  EXPECT_NE(refusal(*narrow->adapters(), kLora + "all").find("rank 4"), std::string::npos);
  const auto other = make_runner(kGoldens + "model/llama2");
  EXPECT_NE(refusal(*other->adapters(), kLora + "all"), "");
  for (const char* name : {"a", "b", "c"}) adapters.load(name, kLora + "zero");
  EXPECT_NE(refusal(adapters, kLora + "all").find("all 3 places"), std::string::npos);
  EXPECT_THROW(adapters.load("a", kLora + "all"), Error);
  EXPECT_EQ(adapters.in_use(), 3);
}

// Requests, cancellations, loads and unloads at random leave neither pages nor slots.
TEST(Adapters, SoakLeavesNothing) {
  Service service(std::make_unique<Engine>(make_runner()), {64});
  Adapters& adapters = *service.runner().adapters();
  std::mt19937 random(3);
  std::atomic<int> loaded{0}, gone{0};
  std::vector<uint64_t> ids;
  const std::vector<std::string> names{"all", "rslora", "zero"};
  for (int i = 0; i < 300; ++i) {
    const std::string& name = names[random() % 3];
    if (random() % 4 == 0) {
      try {
        if (adapters.find(name)) {
          adapters.unload(name, [&] { ++gone; });
        } else {
          adapters.load(name, kLora + name);
          ++loaded;
        }
      } catch (const Error& error) {  // the slots of those that still run
        EXPECT_NE(std::string(error.what()).find("places"), std::string::npos) << error.what();
      }
    }
    try {
      Request request = request_of(random() % 3 == 0 ? "" : name, static_cast<int32_t>(random() % 5), 9);
      request.n = random() % 4 == 0 ? 3 : 1;
      ids.push_back(service.submit(
          request, [](const Event& event) { EXPECT_NE(event.finish, FinishReason::kError) << event.error; }));
    } catch (const Error& error) {
      EXPECT_TRUE(error.kind() == ErrorKind::kNotFound || error.kind() == ErrorKind::kBusy) << error.what();
    }
    if (!ids.empty() && random() % 2 == 0) service.cancel(ids[random() % ids.size()]);
    if (!ids.empty() && random() % 3 == 0)
      service.cancel(ids[random() % ids.size()], static_cast<int>(random() % 3));
  }
  for (const auto& adapter : adapters.list()) adapters.unload(adapter->name, [&] { ++gone; });
  service.drain();
  EXPECT_EQ(gone, loaded);
  EXPECT_EQ(adapters.in_use(), 0);
  EXPECT_EQ(service.stats().kv_usage, 0);
}

}  // namespace
}  // namespace flagscale::engine
