#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/error.h"
#include "io/gguf_weights.h"

namespace flagscale::io {

namespace {
using Json = nlohmann::ordered_json;

struct Family {
  std::string_view architecture, model_type, class_name;
};
constexpr Family kFamilies[] = {{"llama", "llama", "LlamaForCausalLM"},
                                {"qwen2", "qwen2", "Qwen2ForCausalLM"},
                                {"qwen3", "qwen3", "Qwen3ForCausalLM"},
                                {"qwen2moe", "qwen2_moe", "Qwen2MoeForCausalLM"},
                                {"qwen3moe", "qwen3_moe", "Qwen3MoeForCausalLM"}};
constexpr Family kMixtral{"llama", "mixtral", "MixtralForCausalLM"};

const Family& family_of(const GgufFile& file) {
  const std::string architecture = file.architecture();
  const bool experts = file.integer(architecture + ".expert_count").value_or(0) > 0;
  if (experts && architecture == "llama") return kMixtral;
  for (const Family& family : kFamilies)
    if (family.architecture == architecture && experts == family.model_type.ends_with("_moe")) return family;
  fail(ErrorKind::kUnsupported,
       "{}: architecture '{}' {} experts; read are llama, qwen2 and qwen3 without, llama, qwen2moe and "
       "qwen3moe "
       "with",
       file.path(), architecture, experts ? "with" : "without");
}

// The value of fp32 metadata as a person would have written it: 1e-05, not 9.999999747378752e-06.
double rounded(double stored) {
  double value = 0;
  const std::string text = fmt::format("{}", static_cast<float>(stored));
  value = std::strtod(text.c_str(), nullptr);
  return value;
}

// The divisor that llama3 scaling gives the frequency of wavelength `wave`.
double llama3_divisor(double wave, double factor, double low, double high, double original) {
  if (wave < original / high) return 1;
  if (wave > original / low) return factor;
  const double smooth = (original / wave - low) / (high - low);
  return 1 / ((1 - smooth) / factor + smooth);
}

// `llama` files give llama3 scaling as one divisor a frequency. The blend between 1 and the factor is linear
// in 1/wavelength, so two of its points give original/(high - low) and low/(high - low); of the family of
// numbers that mean the same, the one with low = 1 is taken, and the published 1, 4, 8192 where they fit.
Json llama3_scaling(const GgufFile& file, std::span<const float> divisors, double theta, int64_t head_dim) {
  if (static_cast<int64_t>(divisors.size()) != head_dim / 2)
    fail(ErrorKind::kCorrupt, "{}: rope_freqs has {} values, expected {}", file.path(), divisors.size(),
         head_dim / 2);
  const auto wave = [&](size_t i) {
    return 2 * std::numbers::pi * std::pow(theta, 2 * static_cast<double>(i) / static_cast<double>(head_dim));
  };
  double factor = 1;
  for (const float divisor : divisors) factor = std::max(factor, double{divisor});
  const auto fits = [&](double low, double high, double original) {
    for (size_t i = 0; i < divisors.size(); ++i) {
      const double expected = llama3_divisor(wave(i), factor, low, high, original);
      if (!(std::fabs(divisors[i] - expected) <= 1e-4 * expected)) return false;
    }
    return true;
  };
  double low = 1, high = 4, original = 8192;
  if (!fits(low, high, original)) {
    std::vector<std::pair<double, double>> blend;  // 1/wavelength, smooth
    for (size_t i = 0; i < divisors.size(); ++i)
      if (divisors[i] > 1.0001f && divisors[i] < 0.9999 * factor)
        blend.emplace_back(1 / wave(i), (1 / double{divisors[i]} - 1 / factor) / (1 - 1 / factor));
    if (blend.size() < 2)
      fail(ErrorKind::kUnsupported, "{}: rope_freqs is not a llama3 scaling", file.path());
    const auto [x0, y0] = blend.front();
    const auto [x1, y1] = blend.back();
    const double slope = (y1 - y0) / (x1 - x0), offset = slope * x0 - y0;
    high = std::round((1 + 1 / offset) * 1e4) / 1e4;
    original = std::round(slope / offset);
    if (!fits(low, high, original))
      fail(ErrorKind::kUnsupported, "{}: rope_freqs is not a llama3 scaling", file.path());
  }
  return {{"rope_type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", low},
          {"high_freq_factor", high},
          {"original_max_position_embeddings", static_cast<int64_t>(original)}};
}

Json rope_scaling(const GgufFile& file, const std::string& prefix, double theta, int64_t head_dim) {
  if (const GgufTensor* freqs = file.find("rope_freqs.weight")) {
    std::vector<float> divisors(static_cast<size_t>(freqs->info.numel()));
    decode_f32(freqs->info.encoding, freqs->info.dtype, file.bytes(*freqs), 0, divisors);
    return llama3_scaling(file, divisors, theta, head_dim);
  }
  const std::string type(file.text(prefix + "rope.scaling.type").value_or("none"));
  if (type == "none") return nullptr;
  if (type != "linear" && type != "yarn")
    fail(ErrorKind::kUnsupported, "{}: rope scaling '{}'; read are none, linear, yarn and llama3",
         file.path(), type);
  Json result{{"rope_type", type},
              {"factor", rounded(file.number(prefix + "rope.scaling.factor").value_or(1))}};
  if (const auto original = file.integer(prefix + "rope.scaling.original_context_length"))
    result["original_max_position_embeddings"] = *original;
  return result;
}

// What llama.cpp does with each architecture's router is not in the file.
void add_experts(const GgufFile& file, const std::string& prefix, const Family& family, Json& json) {
  const bool mixtral = family.model_type == "mixtral";
  json[mixtral ? "num_local_experts" : "num_experts"] = file.required(prefix + "expert_count");
  json["num_experts_per_tok"] = file.required(prefix + "expert_used_count");
  if (!file.find("blk.0.ffn_gate_exps.weight") && file.find("blk.0.ffn_gate.0.weight"))
    fail(ErrorKind::kUnsupported,
         "{}: experts in a tensor each, as llama.cpp wrote them before April 2024; convert the model again",
         file.path());
  if (mixtral) return;
  json["moe_intermediate_size"] = file.required(prefix + "expert_feed_forward_length");
  json["norm_topk_prob"] = family.model_type == "qwen3_moe";
  json["decoder_sparse_step"] = 1;
  Json dense = Json::array();
  const auto tensors = static_cast<int64_t>(file.tensors().size());
  for (int64_t i = 0; i < std::min(tensors, file.required(prefix + "block_count")); ++i)
    if (file.find(fmt::format("blk.{}.ffn_down.weight", i))) dense.push_back(i);
  json["mlp_only_layers"] = dense;
  if (family.model_type == "qwen2_moe")
    json["shared_expert_intermediate_size"] = file.required(prefix + "expert_shared_feed_forward_length");
}

Json token_id(int64_t id) { return id < 0 ? Json(nullptr) : Json(id); }

std::string text_of(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}
}  // namespace

std::string gguf_config_json(const GgufFile& file, DType dtype) {
  const Family& family = family_of(file);
  const std::string prefix = file.architecture() + ".";
  const GgufTensor* embedding = file.find("token_embd.weight");
  if (!embedding || embedding->info.shape.size() != 2)
    fail(ErrorKind::kCorrupt, "{}: token_embd.weight is missing or no matrix", file.path());
  const int64_t hidden = file.required(prefix + "embedding_length"),
                heads = file.required(prefix + "attention.head_count");
  if (heads < 1 || hidden < 1)
    fail(ErrorKind::kCorrupt, "{}: {} heads of width {}", file.path(), heads, hidden);
  const int64_t head_dim = file.integer(prefix + "attention.key_length").value_or(hidden / heads);
  if (file.integer(prefix + "rope.dimension_count").value_or(head_dim) != head_dim)
    fail(ErrorKind::kUnsupported, "{}: rotary embedding of a part of each head", file.path());
  const double theta = rounded(file.number(prefix + "rope.freq_base").value_or(10000));
  Json json{{"architectures", {family.class_name}}, {"model_type", family.model_type}};
  json["vocab_size"] = embedding->info.shape[0];
  json["hidden_size"] = hidden;
  json["intermediate_size"] = file.required(prefix + "feed_forward_length");
  json["num_hidden_layers"] = file.required(prefix + "block_count");
  json["num_attention_heads"] = heads;
  json["num_key_value_heads"] = file.integer(prefix + "attention.head_count_kv").value_or(heads);
  json["head_dim"] = head_dim;
  json["max_position_embeddings"] = file.required(prefix + "context_length");
  json["rms_norm_eps"] = rounded(file.number(prefix + "attention.layer_norm_rms_epsilon").value_or(1e-5));
  json["hidden_act"] = "silu";
  json["rope_theta"] = theta;
  json["rope_scaling"] = rope_scaling(file, prefix, theta, head_dim);
  if (family.model_type.ends_with("_moe") || family.model_type == "mixtral")
    add_experts(file, prefix, family, json);
  if (family.model_type == "qwen2_moe") json["qkv_bias"] = file.find("blk.0.attn_q.bias") != nullptr;
  if (family.architecture != "qwen2") json["attention_bias"] = file.find("blk.0.attn_q.bias") != nullptr;
  if (family.architecture == "llama") json["mlp_bias"] = file.find("blk.0.ffn_up.bias") != nullptr;
  json["tie_word_embeddings"] = file.find("output.weight") == nullptr;
  json["torch_dtype"] = flagscale::name(dtype);
  if (file.strings("tokenizer.ggml.tokens")) {
    const GgufTokenizer tokenizer = gguf_tokenizer(file);
    json["bos_token_id"] = token_id(tokenizer.bos);
    json["eos_token_id"] = token_id(tokenizer.eos);
    if (tokenizer.pad >= 0) json["pad_token_id"] = tokenizer.pad;
  }
  return text_of(json);
}

std::string gguf_generation_config_json(const GgufFile& file) {
  const GgufTokenizer tokenizer = gguf_tokenizer(file);
  Json json{{"bos_token_id", token_id(tokenizer.bos)}, {"eos_token_id", token_id(tokenizer.eos)}};
  if (const auto eot = file.integer("tokenizer.ggml.eot_token_id"); eot && *eot != tokenizer.eos)
    json["eos_token_id"] = Json::array({tokenizer.eos, *eot});
  if (tokenizer.pad >= 0) json["pad_token_id"] = tokenizer.pad;
  return text_of(json);
}

std::string gguf_tokenizer_config_json(const GgufFile& file) {
  const GgufTokenizer tokenizer = gguf_tokenizer(file);
  Json json{{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  json["add_bos_token"] = tokenizer.add_bos;
  json["add_eos_token"] = tokenizer.add_eos;
  const auto add = [&](const char* key, int64_t id) {
    if (id >= 0) json[key] = std::string(tokenizer.tokens[static_cast<size_t>(id)]);
  };
  add("bos_token", tokenizer.bos);
  add("eos_token", tokenizer.eos);
  add("unk_token", tokenizer.unk);
  add("pad_token", tokenizer.pad);
  if (!tokenizer.chat_template.empty()) json["chat_template"] = std::string(tokenizer.chat_template);
  if (const auto length = file.integer(file.architecture() + ".context_length"))
    json["model_max_length"] = *length;
  return text_of(json);
}

}  // namespace flagscale::io
