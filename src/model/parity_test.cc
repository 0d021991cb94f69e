// Every family against transformers: tests/golden/model/, made by tests/oracle/model/make_models.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/registry.h"
#include "base/temporary_folder_test_support.h"
#include "io/convert.h"
#include "io/weights.h"
#include "kernel/eager.h"
#include "model/decoder/decoder.h"
#include "model/merge.h"
#include "model/weights.h"
#include "op/elementwise/elementwise.h"

namespace flagscale::model {
namespace {

const std::string kGolden = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/model/";

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

double relative_error(const float* got, const std::vector<float>& want) {
  double difference = 0, scale = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference = std::max(difference, std::fabs(static_cast<double>(got[i]) - static_cast<double>(want[i])));
    scale = std::max(scale, std::fabs(static_cast<double>(want[i])));
  }
  return difference / scale;
}

// A model with memory of its own for weights and gradients, run eagerly.
struct Loaded {
  std::unique_ptr<Allocator> allocator = make_cpu_allocator();
  Team team{2};
  nn::Partition partition;
  Decoder decoder;
  std::vector<Tensor> grads;

  // name: of a golden model, or a folder's path.
  Loaded(const std::string& name, DType dtype)
      : decoder(parse_config(text_of(folder(name) + "/config.json")), partition) {
    for (auto& p : decoder.parameters().parameters()) {
      p.value = make_tensor(*allocator, p.shape, dtype);
      grads.push_back(make_tensor(*allocator, p.shape, DType::kF32));
    }
    for (auto& c : decoder.parameters().constants()) c.value = make_tensor(*allocator, c.shape, DType::kF32);
    fill_constants(decoder.parameters());
    const auto weights = io::open_weights(folder(name));
    load_weights(*weights, decoder.parameters(), team);
    EXPECT_TRUE(unused_tensors(*weights, decoder.parameters(), decoder.config().tie_embeddings).empty());
  }

  static std::string folder(const std::string& name) {
    return (std::filesystem::path(kGolden) / name).string();
  }

  Tensor ints(const std::vector<int32_t>& values) {
    const Tensor t = make_tensor(*allocator, {static_cast<int64_t>(values.size())}, DType::kI32);
    std::copy(values.begin(), values.end(), t.data<int32_t>());
    return t;
  }
};

struct Output {
  std::vector<float> logits;
  double loss = 0, balance = 0;  // balance: transformers' aux_loss
};

// ids [sequences, length] packed; the loss of the next token within each sequence, as transformers forms it.
Output run(Loaded& m, const std::vector<int32_t>& ids, int32_t sequences, RecomputeSpec recompute = {}) {
  const auto tokens = static_cast<int32_t>(ids.size()), length = tokens / sequences;
  std::vector<int32_t> positions, labels, cu_seqlens{0};
  const Tensor mask = make_tensor(*m.allocator, {tokens}, DType::kF32);
  for (int32_t i = 0; i < tokens; ++i) {
    const bool last = i % length == length - 1;
    positions.push_back(i % length);
    labels.push_back(last ? 0 : ids[static_cast<size_t>(i) + 1]);
    mask.data<float>()[i] = last ? 0.f : 1.f;
    if (last) cu_seqlens.push_back(i + 1);
  }
  EagerRecorder recorder(*m.allocator, m.team);
  Tape tape = op::make_tape();
  const int64_t accumulate = 0;
  auto& parameters = m.decoder.parameters().parameters();
  for (size_t i = 0; i < parameters.size(); ++i) tape.watch(parameters[i].value, m.grads[i], &accumulate);
  Context context{recorder, &tape};
  nn::PackedAttention attention({m.ints(positions), m.ints(cu_seqlens), nullptr});
  op::RouterLosses losses{.balance = m.decoder.config().moe.balance_loss, .across_layers = true};
  if (m.decoder.num_mixtures() > 0) losses.statistics = m.decoder.router_statistics(recorder);
  const Tensor hidden = m.decoder.hidden(context, m.ints(ids), attention, recompute, &losses);
  Context plain{recorder, nullptr};
  const Tensor logits = m.decoder.logits(plain, hidden);
  const float scale = 1.f / static_cast<float>(tokens - sequences);
  const Tensor loss = m.decoder.loss(context, hidden, m.ints(labels), mask, &scale);
  tape.backward(recorder);

  Output out;
  out.logits.assign(logits.data<float>(), logits.data<float>() + logits.shape().numel());
  for (int32_t i = 0; i < tokens; ++i)
    out.loss += static_cast<double>(loss.data<float>()[i]) * static_cast<double>(scale);
  if (m.decoder.num_mixtures() > 0)
    out.balance = op::router_loss_values(losses, m.decoder.config().moe.top_k, tokens).balance;
  return out;
}

std::vector<int32_t> ids_of(const io::WeightSet& oracle, const char* name) {
  const io::TensorInfo& info = oracle.info(name);
  std::vector<int64_t> wide(static_cast<size_t>(info.numel()));
  oracle.read(name, 0, info.rows(), DType::kI64, std::as_writable_bytes(std::span(wide)));
  return {wide.begin(), wide.end()};
}

class Parity : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<io::WeightSet> oracle = io::open_weights(kGolden + GetParam() + "/oracle.safetensors");

  // Largest relative error of any gradient less what `allowed` says for it.
  template <class Allowed>
  void expect_gradients(Loaded& m, Allowed allowed) {
    const auto& parameters = m.decoder.parameters().parameters();
    for (size_t i = 0; i < parameters.size(); ++i) {
      const float* grad = m.grads[i].data<float>();
      for (const nn::Part& part : parameters[i].parts) {
        EXPECT_LE(relative_error(grad, oracle->read_f32("grad." + part.name)), allowed(part.name))
            << part.name;
        grad += part.rows * (parameters[i].shape.numel() / parameters[i].shape[0]);
      }
    }
  }
};

TEST_P(Parity, LogitsLossAndEveryGradientInFp32) {
  Loaded m(GetParam(), DType::kF32);
  const auto ids = ids_of(*oracle, "input_ids");
  for (const Recompute recompute : {Recompute::kNone, Recompute::kFull}) {
    const Output out = run(m, ids, 2, {recompute, -1});
    EXPECT_LE(relative_error(out.logits.data(), oracle->read_f32("logits")), 1e-5);
    EXPECT_NEAR(out.loss, static_cast<double>(oracle->read_f32("loss")[0]), 1e-5);
    if (m.decoder.num_mixtures() > 0) {
      EXPECT_NEAR(out.balance, static_cast<double>(oracle->read_f32("aux_loss")[0]), 1e-5);
    }
    expect_gradients(m, [](const std::string&) { return 1e-4; });
  }
}

// No worse than PyTorch's own bf16: its errors against fp32 are in the golden files. The largest of few
// elements varies, so a tensor may reach three times its PyTorch error.
TEST_P(Parity, Bf16ErrsAsPyTorchsDoes) {
  Loaded m(GetParam(), DType::kBF16);
  const Output out = run(m, ids_of(*oracle, "input_ids"), 2);
  EXPECT_LE(relative_error(out.logits.data(), oracle->read_f32("logits")),
            1.5 * static_cast<double>(oracle->read_f32("bf16.logits_error")[0]));
  expect_gradients(m, [&](const std::string& name) {
    // Softmax cancels all of this gradient but what rotation leaves: rounding is most of it, in PyTorch too.
    if (name.ends_with("k_proj.bias")) return 0.3;
    return 3 * static_cast<double>(oracle->read_f32("bf16.grad_error." + name)[0]);
  });
}

TEST_P(Parity, GreedyTokens) {
  Loaded m(GetParam(), DType::kF32);
  auto ids = ids_of(*oracle, "prompt_ids");
  const auto vocab = static_cast<size_t>(m.decoder.config().vocab_size);
  for (const int32_t expected : ids_of(*oracle, "greedy_ids")) {
    const Output out = run(m, ids, 1);
    const auto last = out.logits.end() - static_cast<std::ptrdiff_t>(vocab);
    const auto best = static_cast<int32_t>(std::max_element(last, out.logits.end()) - last);
    ASSERT_EQ(best, expected);
    ids.push_back(best);
  }
}

// config.json written by us says what the one that was read says.
TEST_P(Parity, ConfigurationSurvivesARoundTrip) {
  const DecoderConfig a = parse_config(text_of(kGolden + GetParam() + "/config.json"));
  const DecoderConfig b = parse_config(write_config(a, "float32"));
  EXPECT_EQ(write_config(a, "float32"), write_config(b, "float32"));
  EXPECT_EQ(a.head_dim, b.head_dim);
  EXPECT_EQ(op::rope_frequencies(a.rope), op::rope_frequencies(b.rope));
  EXPECT_EQ(a.sliding_window, b.sliding_window);
  EXPECT_EQ(a.moe.dense, b.moe.dense);
  EXPECT_EQ(std::tie(a.moe.experts, a.moe.top_k, a.moe.size, a.moe.normalise, a.moe.shared_size),
            std::tie(b.moe.experts, b.moe.top_k, b.moe.size, b.moe.normalise, b.moe.shared_size));
}

TEST_P(Parity, ParametersAreCountedFromTheSizes) {
  Loaded m(GetParam(), DType::kF32);
  EXPECT_EQ(parameter_count(m.decoder.config()), static_cast<double>(m.decoder.parameters().numel()));
}

std::vector<std::string> goldens() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kGolden))
    if (std::filesystem::exists(entry.path() / "oracle.safetensors"))
      names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Families, Parity, ::testing::ValuesIn(goldens()),
                         [](const auto& test) { return test.param; });

TEST(Goldens, ThereIsOneForEachFamily) {
  std::set<std::string> families;
  for (const std::string& name : goldens())
    families.insert(parse_config(text_of(kGolden + name + "/config.json")).model_type);
  for (const std::string& family : Registry<ModelFamily>::instance().names())
    EXPECT_TRUE(families.contains(family)) << family;
}

// Every spelling and place of the rotary settings, as transformers reads them.
TEST(Rope, FrequenciesAndFactorOfEverySpelling) {
  const auto cases = nlohmann::json::parse(text_of(kGolden + "rope.json"));
  ASSERT_GT(cases.size(), 200u);
  for (const auto& one : cases) {
    SCOPED_TRACE(one["config"].dump());
    const DecoderConfig config = parse_config(one["config"].dump());
    EXPECT_NEAR(config.rope.attention_factor, one["factor"].get<double>(), 1e-9);
    const auto want = one["frequencies"].get<std::vector<double>>();
    const auto got = op::rope_frequencies(config.rope);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i] / want[i], 1, 2e-6) << i;
    const DecoderConfig again = parse_config(write_config(config, "float32"));
    EXPECT_EQ(op::rope_frequencies(again.rope), got);
    EXPECT_EQ(again.rope.attention_factor, config.rope.attention_factor);
  }
}

// A configuration of fewer layers than the file has would answer, and wrongly.
TEST(Weights, ThoseWithoutAPlaceAreTold) {
  auto json = nlohmann::json::parse(text_of(kGolden + "qwen2/config.json"));
  json["num_hidden_layers"] = 1;
  nn::Partition partition;
  Decoder decoder(parse_config(json.dump()), partition);
  const auto weights = io::open_weights(kGolden + "qwen2");
  ::testing::internal::CaptureStderr();
  warn_of_unused(*weights, decoder.parameters(), decoder.config().tie_embeddings);
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("12 of "), std::string::npos) << said;
  EXPECT_NE(said.find("are not used: model.layers.1."), std::string::npos) << said;
}

// Defaults of transformers 5's configuration classes.
TEST(Configuration, AbsentKeysTakeTheFamilysDefaults) {
  const auto parsed = [](const char* model_type, const nlohmann::json& more = nlohmann::json::object()) {
    nlohmann::json json = {{"model_type", model_type},   {"vocab_size", 64},
                           {"hidden_size", 256},         {"intermediate_size", 64},
                           {"num_hidden_layers", 1},     {"num_attention_heads", 64},
                           {"tie_word_embeddings", true}};
    json.update(more);
    return parse_config(json.dump());
  };
  EXPECT_EQ(parsed("llama").num_kv_heads, 64);
  EXPECT_EQ(parsed("llama").max_positions, 2048);
  EXPECT_EQ(parsed("qwen2").num_kv_heads, 32);
  EXPECT_EQ(parsed("qwen2", {{"num_key_value_heads", nullptr}}).num_kv_heads, 64);
  EXPECT_EQ(parsed("qwen2").max_positions, 32768);
  EXPECT_EQ(parsed("qwen3").num_kv_heads, 32);
  EXPECT_EQ(parsed("qwen3").head_dim, 128);
  EXPECT_EQ(parsed("mistral").num_kv_heads, 8);
  EXPECT_EQ(parsed("mistral").max_positions, 131072);
  EXPECT_EQ(parsed("mistral").sliding_window, 4096);
  EXPECT_EQ(parsed("mistral", {{"sliding_window", nullptr}}).sliding_window, 0);
  EXPECT_EQ(parsed("mixtral").rope.theta, 1e6);
  EXPECT_EQ(parsed("mixtral").moe.experts, 8);
  EXPECT_EQ(parsed("mixtral").sliding_window, 0);
  EXPECT_EQ(parsed("qwen3_moe").moe.experts, 128);
  EXPECT_EQ(parsed("qwen3_moe").moe.top_k, 8);
  EXPECT_FALSE(parsed("qwen3_moe").moe.normalise);
  EXPECT_EQ(parsed("qwen3_moe", {{"num_local_experts", 16}}).moe.experts, 16)
      << "as transformers 5 writes it";
  EXPECT_EQ(parsed("qwen2_moe").moe.shared_size, 5632);
  EXPECT_TRUE(parsed("qwen2_moe").qkv_bias);
  EXPECT_FALSE(parsed("qwen2_moe", {{"qkv_bias", false}}).qkv_bias);
}

TEST(Configuration, WhichLayersAreMixtures) {
  auto json = nlohmann::json::parse(text_of(kGolden + "qwen3_moe/config.json"));
  json.update({{"num_hidden_layers", 7}, {"decoder_sparse_step", 3}, {"mlp_only_layers", {5, 1}}});
  const DecoderConfig config = parse_config(json.dump());
  std::vector<int> mixtures;
  for (int i = 0; i < 7; ++i)
    if (config.moe.at(i)) mixtures.push_back(i);
  EXPECT_EQ(mixtures, (std::vector<int>{2}));
}

// What one of our decoders cannot say is refused, not approximated.
TEST(Configuration, WhatWouldChangeTheResultIsRefused) {
  const auto refused = [](const char* key, const nlohmann::json& value) {
    auto json = nlohmann::json::parse(text_of(kGolden + "qwen2_window/config.json"));
    json[key] = value;
    try {
      parse_config(json.dump());
    } catch (const Error& error) {
      return std::string(error.what()).find(key) != std::string::npos;
    }
    return false;
  };
  EXPECT_TRUE(refused("layer_types", {"sliding_attention", "full_attention"}));
  EXPECT_TRUE(refused("rope_parameters", {{"full_attention", {{"rope_theta", 1e4}}}}));
  EXPECT_TRUE(refused("partial_rotary_factor", 0.5));
  EXPECT_TRUE(refused("hidden_act", "gelu"));
  EXPECT_TRUE(refused("rope_scaling", {{"rope_type", "longrope"}, {"factor", 2}}));
  EXPECT_TRUE(refused("vision_config", {{"hidden_size", 8}}));
  EXPECT_TRUE(refused("mm_vision_tower", "openai/clip"));
  EXPECT_TRUE(refused("quantization_config", {{"quant_method", "awq"}}));
  EXPECT_TRUE(refused("quantization_config", {{"quant_method", 8}}));
  EXPECT_TRUE(refused("quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", {64, 64}}}));
  EXPECT_FALSE(refused("quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}}));
  EXPECT_TRUE(refused("architectures", {"Qwen2ForSequenceClassification"}));
  EXPECT_TRUE(refused("architectures", {"Mistral3ForConditionalGeneration"}));
  EXPECT_TRUE(refused("num_hidden_layers", 1.5));
  EXPECT_TRUE(refused("rope_parameters", "linear"));
  EXPECT_TRUE(refused("eos_token_id", "</s>"));
  EXPECT_TRUE(refused("eos_token_id", {2, int64_t{1} << 40}));
  EXPECT_TRUE(refused("rms_norm_eps", -1));
  EXPECT_TRUE(refused("rope_theta", 0));
  EXPECT_FALSE(refused("hidden_size", 64.0));
  EXPECT_FALSE(refused("eos_token_id", nullptr));
  EXPECT_FALSE(refused("architectures", {"AquilaModel"}));
  EXPECT_FALSE(refused("layer_types", {"full_attention", "sliding_attention"}));
}

TEST(Configuration, ImpossibleMixturesAreRefused) {
  const auto says = [](const std::string& model, const char* key, const nlohmann::json& value) {
    auto json = nlohmann::json::parse(text_of(kGolden + model + "/config.json"));
    json[key] = value;
    try {
      parse_config(json.dump());
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  for (const auto& value :
       {nlohmann::json(0), nlohmann::json("many"), nlohmann::json(nullptr), nlohmann::json(5)})
    EXPECT_NE(says("mixtral", "num_experts_per_tok", value).find("num_experts_per_tok is"),
              std::string::npos);
  EXPECT_NE(says("mixtral", "num_local_experts", 0).find("num_local_experts is 0"), std::string::npos);
  EXPECT_NE(says("mixtral", "num_local_experts", 5000).find("5000 experts"), std::string::npos);
  EXPECT_NE(says("qwen3_moe", "decoder_sparse_step", 0).find("decoder_sparse_step is 0"), std::string::npos);
  EXPECT_NE(says("qwen2_moe", "shared_expert_intermediate_size", nullptr).find("expected a width"),
            std::string::npos);
  EXPECT_NE(says("qwen2_moe", "use_sliding_window", true).find("use_sliding_window"), std::string::npos);
}

// Adapters of tests/golden/lora merged into their base in files, and taken out again.
TEST(Merge, MergedGivesPeftsLogitsAndUnmergedTheBase) {
  const std::string base = kGolden + "qwen3", adapters = kGolden + "../lora/";
  const auto oracle = io::open_weights(adapters + "oracle.safetensors");
  const auto weights = io::open_weights(base);
  for (const std::string name : {"all", "rslora", "zero"}) {
    SCOPED_TRACE(name);
    const TemporaryFolder folder;
    const std::string merged = folder.path + "/merged", again = folder.path + "/again";
    io::ConvertOptions options;
    options.change = Merge(open_peft(adapters + name), *weights, 1);
    io::export_weights(base, merged, options);
    Loaded model(merged, DType::kF32);
    const Output out = run(model, ids_of(*oracle, "input_ids"), 1);
    EXPECT_LE(relative_error(out.logits.data(), oracle->read_f32(name)), 1e-5);

    const auto changed = io::open_weights(merged);
    options.change = Merge(open_peft(adapters + name), *changed, -1);
    io::export_weights(merged, again, options);
    const auto restored = io::open_weights(again);
    for (const io::TensorInfo& info : weights->tensors())
      EXPECT_LE(relative_error(restored->read_f32(info.name).data(), weights->read_f32(info.name)), 1e-6)
          << info.name;
  }
}

TEST(Merge, AnAdapterOfAnotherModelIsRefused) {
  const auto weights = io::open_weights(kGolden + "../lora/all/adapter_model.safetensors");
  EXPECT_THROW(Merge(open_peft(kGolden + "../lora/all"), *weights, 1), Error);
}

}  // namespace
}  // namespace flagscale::model
