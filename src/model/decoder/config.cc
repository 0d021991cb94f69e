#include "model/decoder/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "base/error.h"
#include "base/registry.h"
#include "op/router/router.h"

namespace flagscale::model {

namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void wrong_type(const char* key, const nlohmann::json& value) {
  fail(ErrorKind::kCorrupt, "config.json: {} is {}, which is not of the expected type", key, value.dump());
}

// json[key] as T; `fallback` where it is absent or null.
template <class T>
T value_or(const nlohmann::json& json, const char* key, T fallback) {
  const auto it = json.find(key);
  if (it == json.end() || it->is_null()) return fallback;
  try {
    const T value = it->get<T>();
    if (!std::is_integral_v<T> || *it == nlohmann::json(value)) return value;  // 1.5 would have become 1
  } catch (const nlohmann::json::exception&) {
  }
  wrong_type(key, *it);
}

template <class T>
T required(const nlohmann::json& json, const char* key) {
  if (!json.contains(key)) fail(ErrorKind::kCorrupt, "config.json has no {}", key);
  return value_or<T>(json, key, T{});
}

int small_int(const nlohmann::json& json, const char* key, int64_t value, int64_t most) {
  if (value < 1 || value > most)
    fail(ErrorKind::kCorrupt, "config.json: {} is {}, expected 1..{}", key,
         json.contains(key) ? json[key].dump() : "?", most);
  return static_cast<int>(value);
}

// Both spellings: rope_theta + rope_scaling{type|rope_type}, and transformers 5's rope_parameters. Where a
// file has both, transformers takes rope_scaling.
const nlohmann::json& rope_settings(const nlohmann::json& json) {
  static const nlohmann::json kNone = nlohmann::json::object();
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!json.contains(key) || json[key].is_null()) continue;
    if (!json[key].is_object()) wrong_type(key, json[key]);
    if (json[key].empty()) continue;
    for (const auto& [name, value] : json[key].items())
      if (value.is_object())
        fail(ErrorKind::kUnsupported,
             "config.json: {} has settings for '{}' alone; one for all layers is supported", key, name);
    return json[key];
  }
  return kNone;
}

void read_rope(const nlohmann::json& json, DecoderConfig& config) {
  op::RopeSpec& rope = config.rope;
  const nlohmann::json& scaling = rope_settings(json);
  rope.head_dim = config.head_dim;
  rope.theta = value_or<double>(scaling, "rope_theta", value_or<double>(json, "rope_theta", 10000.0));
  rope.max_positions = config.max_positions;
  const auto partial = value_or<double>(scaling, "partial_rotary_factor",
                                        value_or<double>(json, "partial_rotary_factor", 1.0));
  if (partial != 1.0)
    fail(ErrorKind::kUnsupported, "config.json: partial_rotary_factor {} is not supported; only 1 is",
         partial);
  const auto type =
      value_or<std::string>(scaling, "rope_type", value_or<std::string>(scaling, "type", "default"));
  op::RopeScalingValues values;
  values.original_max_positions =
      value_or<int64_t>(json, "original_max_position_embeddings",
                        value_or<int64_t>(scaling, "original_max_position_embeddings", config.max_positions));
  const double ratio = static_cast<double>(config.max_positions) /
                       static_cast<double>(std::max<int64_t>(values.original_max_positions, 1));
  values.factor = value_or<double>(scaling, "factor", type == "yarn" ? ratio : 1.0);
  values.low_freq_factor = value_or<double>(scaling, "low_freq_factor", 1.0);
  values.high_freq_factor = value_or<double>(scaling, "high_freq_factor", 4.0);
  values.beta_fast = value_or<double>(scaling, "beta_fast", 32.0);
  values.beta_slow = value_or<double>(scaling, "beta_slow", 1.0);
  values.mscale = value_or<double>(scaling, "mscale", 0.0);
  values.mscale_all_dim = value_or<double>(scaling, "mscale_all_dim", 0.0);
  values.attention_factor = value_or<double>(scaling, "attention_factor", 0.0);
  values.truncate = value_or<bool>(scaling, "truncate", true);
  op::set_rope_scaling(rope, type, values);
}

void read_ids(const nlohmann::json& json, DecoderConfig& config) {
  config.bos_id = json.contains("bos_token_id") && json["bos_token_id"].is_number_integer()
                      ? json["bos_token_id"].get<int>()
                      : -1;
  if (!json.contains("eos_token_id")) return;
  const auto& eos = json["eos_token_id"];
  const auto add = [&](const nlohmann::json& id) {
    if (!id.is_number_integer() || id != nlohmann::json(id.get<int>())) wrong_type("eos_token_id", eos);
    config.eos_ids.push_back(id.get<int>());
  };
  if (eos.is_array())
    std::for_each(eos.begin(), eos.end(), add);
  else if (!eos.is_null())
    add(eos);
}

// Weights in e4m3 with scales (io/weights.h), as DeepSeek's, Qwen's and compressed-tensors' files have them;
// how a file's maker rounds activations is left aside.
bool is_fp8(const nlohmann::json& quantization) {
  const nlohmann::json none, block{128, 128};
  const auto key = [&](const nlohmann::json& object, const char* name) {
    return object.is_object() && object.contains(name) ? object[name] : none;
  };
  const auto method = key(quantization, "quant_method");
  if (method == "fp8") {
    const auto size = key(quantization, "weight_block_size");
    return size.is_null() || size == block;
  }
  const auto groups = key(quantization, "config_groups");
  return method == "compressed-tensors" && groups.is_object() && !groups.empty() &&
         std::ranges::all_of(groups, [&](const nlohmann::json& group) {
           const auto weights = key(group, "weights");
           return key(weights, "num_bits") == 8 && key(weights, "type") == "float" &&
                  (key(weights, "strategy") != "block" || key(weights, "block_structure") == block);
         });
}

// What has a text model's model_type and more in it, or something else on top: it would fail only later, at a
// tensor that is missing or one too many.
void refuse_what_is_no_text_model(const nlohmann::json& json) {
  for (const char* key : {"vision_config", "audio_config", "vision_tower", "mm_vision_tower", "visual"})
    if (json.contains(key) && !json[key].is_null())
      fail(ErrorKind::kUnsupported,
           "config.json has {}: a model of images or sound too; only text models run", key);
  if (json.contains("quantization_config") && json["quantization_config"].is_object() &&
      !is_fp8(json["quantization_config"]))
    fail(
        ErrorKind::kUnsupported,
        "config.json: quantization_config.quant_method is {}: such weights are not read; take the model that "
        "it was made from, or a GGUF file",
        json["quantization_config"].value("quant_method", nlohmann::json()).dump());
  if (!json.contains("architectures") || !json["architectures"].is_array() || json["architectures"].empty())
    return;
  const auto generates = [](const nlohmann::json& name) {
    if (!name.is_string()) return false;
    const auto& text = name.get_ref<const std::string&>();
    return text.ends_with("ForCausalLM") || text.find("For") == std::string::npos;
  };
  const auto& classes = json["architectures"];
  if (!std::any_of(classes.begin(), classes.end(), generates))
    fail(ErrorKind::kUnsupported, "config.json: architectures is {}: no text generator (…ForCausalLM)",
         classes.dump());
}

}  // namespace

const ModelFamily& model_family(const std::string& model_type) {
  if (const auto* family = Registry<ModelFamily>::instance().find(model_type)) return *family;
  fail(ErrorKind::kUnsupported, "model_type '{}' is not supported; supported: {}", model_type,
       fmt::join(Registry<ModelFamily>::instance().names(), ", "));
}

bool MoeConfig::at(int layer) const {
  return experts > 0 && std::find(dense.begin(), dense.end(), layer) == dense.end();
}

DecoderConfig parse_config(const std::string& text) {
  auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) fail(ErrorKind::kCorrupt, "config.json is not a JSON object");
  DecoderConfig config;
  config.source_json = text;
  config.model_type = required<std::string>(json, "model_type");
  const ModelFamily& family = model_family(config.model_type);
  refuse_what_is_no_text_model(json);
  const auto defaults = nlohmann::json::parse(family.defaults);
  json.insert(defaults.begin(), defaults.end());  // keeps the keys that are there
  config.vocab_size = required<int64_t>(json, "vocab_size");
  config.hidden_size = required<int64_t>(json, "hidden_size");
  config.intermediate_size = required<int64_t>(json, "intermediate_size");
  config.num_layers =
      small_int(json, "num_hidden_layers", required<int64_t>(json, "num_hidden_layers"), 10000);
  config.num_heads =
      small_int(json, "num_attention_heads", required<int64_t>(json, "num_attention_heads"), 65536);
  config.num_kv_heads = small_int(json, "num_key_value_heads",
                                  value_or<int64_t>(json, "num_key_value_heads", config.num_heads), 65536);
  config.head_dim = small_int(
      json, "head_dim", value_or<int64_t>(json, "head_dim", config.hidden_size / config.num_heads), 1024);
  config.max_positions = value_or<int64_t>(json, "max_position_embeddings", 2048);
  config.rms_norm_eps = value_or<float>(json, "rms_norm_eps", 1e-6f);
  config.tie_embeddings = value_or<bool>(json, "tie_word_embeddings", false);
  const auto activation = value_or<std::string>(json, "hidden_act", "silu");
  if (activation != "silu")
    fail(ErrorKind::kUnsupported, "config.json: hidden_act '{}' is not supported; only silu is", activation);
  read_ids(json, config);
  read_rope(json, config);
  family.read(json, config);
  validate(config);
  return config;
}

std::string write_config(const DecoderConfig& c, const std::string& dtype) {
  auto json = nlohmann::json::object();
  if (!c.source_json.empty()) json = nlohmann::json::parse(c.source_json, nullptr, false);
  json["model_type"] = c.model_type;
  json["vocab_size"] = c.vocab_size;
  json["hidden_size"] = c.hidden_size;
  json["intermediate_size"] = c.intermediate_size;
  json["num_hidden_layers"] = c.num_layers;
  json["num_attention_heads"] = c.num_heads;
  json["num_key_value_heads"] = c.num_kv_heads;
  json["head_dim"] = c.head_dim;
  json["max_position_embeddings"] = c.max_positions;
  json["rms_norm_eps"] = static_cast<double>(std::stod(fmt::format("{:g}", c.rms_norm_eps)));
  json["tie_word_embeddings"] = c.tie_embeddings;
  json["hidden_act"] = "silu";
  json["dtype"] = dtype;
  json["torch_dtype"] = dtype;
  if (!json.contains("rope_parameters")) {
    json["rope_theta"] = c.rope.theta;
    if (!json.contains("rope_scaling")) json["rope_scaling"] = nullptr;
  }
  if (c.bos_id >= 0) json["bos_token_id"] = c.bos_id;
  if (c.eos_ids.size() == 1) json["eos_token_id"] = c.eos_ids[0];
  if (c.eos_ids.size() > 1) json["eos_token_id"] = c.eos_ids;
  model_family(c.model_type).write(c, json);
  return json.dump(2) + "\n";
}

void validate(const DecoderConfig& c) {
  const auto bad = [](const std::string& what) {
    fail(ErrorKind::kInvalidArgument, "model configuration: {}", what);
  };
  if (c.vocab_size < 1 || c.vocab_size > (int64_t{1} << 31))
    bad(fmt::format("vocab_size is {}", c.vocab_size));
  if (c.hidden_size < 1 || c.hidden_size > (1 << 20)) bad(fmt::format("hidden_size is {}", c.hidden_size));
  if (c.intermediate_size < 1 || c.intermediate_size > (1 << 24))
    bad(fmt::format("intermediate_size is {}", c.intermediate_size));
  if (c.head_dim > 512) bad(fmt::format("head_dim is {}, attention takes at most 512", c.head_dim));
  if (c.num_layers < 1) bad(fmt::format("num_layers is {}", c.num_layers));
  if (c.num_heads < 1 || c.num_kv_heads < 1 || c.num_heads % c.num_kv_heads != 0)
    bad(fmt::format("{} attention heads cannot share {} key-value heads evenly", c.num_heads,
                    c.num_kv_heads));
  if (c.head_dim < 2 || c.head_dim % 2 != 0)
    bad(fmt::format("head_dim is {}, expected an even number", c.head_dim));
  if (!(c.rms_norm_eps >= 0.f) || !std::isfinite(c.rms_norm_eps))
    bad(fmt::format("rms_norm_eps is {}, expected a number of at least 0", c.rms_norm_eps));
  if (!(c.rope.theta > 0) || !std::isfinite(c.rope.theta))
    bad(fmt::format("rope_theta is {}, expected a number above 0", c.rope.theta));
  if (c.max_positions < 1 || c.max_positions > (1 << 24))
    bad(fmt::format("max_position_embeddings is {}", c.max_positions));
  const MoeConfig& m = c.moe;
  if (m.experts == 0) return;
  if (!model_family(c.model_type).experts.block)
    bad(fmt::format("a {} has no mixture of experts, this model has {}", c.model_type, m.experts));
  if (m.experts < 1 || m.experts > op::kMostExperts)
    bad(fmt::format("{} experts, expected 1..{}", m.experts, op::kMostExperts));
  if (m.top_k < 1 || m.top_k > m.experts)
    bad(fmt::format("{} of {} experts for a token", m.top_k, m.experts));
  if (m.size < 1 || m.size > (1 << 24)) bad(fmt::format("the width of an expert is {}", m.size));
  if (m.shared_size < 0 || m.shared_size > (1 << 24))
    bad(fmt::format("the width of the shared experts is {}", m.shared_size));
  for (const int layer : m.dense)
    if (layer < 0 || layer >= c.num_layers)
      bad(fmt::format("layer {} without experts, of {}", layer, c.num_layers));
}

double parameter_count(const DecoderConfig& c) {
  const double hidden = static_cast<double>(c.hidden_size), inner = static_cast<double>(c.intermediate_size);
  const double q = static_cast<double>(c.num_heads) * c.head_dim;
  const double kv = static_cast<double>(c.num_kv_heads) * c.head_dim;
  double layer = hidden * (q + 2 * kv) + q * hidden + 2 * hidden, all = 0;
  if (c.qkv_bias) layer += q + 2 * kv;
  if (c.o_bias) layer += hidden;
  if (c.qk_norm) layer += 2.0 * c.head_dim;
  const double vocabulary = static_cast<double>(c.vocab_size) * hidden;
  const double dense = 3 * hidden * inner + (c.mlp_bias ? 2 * inner + hidden : 0);
  const double experts = static_cast<double>(c.moe.experts), shared = static_cast<double>(c.moe.shared_size);
  const double mixture = hidden * experts * (1 + 3 * static_cast<double>(c.moe.size)) +
                         (shared > 0 ? hidden * (1 + 3 * shared) : 0);
  for (int i = 0; i < c.num_layers; ++i) all += layer + (c.moe.at(i) ? mixture : dense);
  return all + vocabulary * (c.tie_embeddings ? 1 : 2) + hidden;
}

}  // namespace flagscale::model
