// LLaMA 2, 3, 3.1, 3.2 (Touvron et al., 2023; Grattafiori et al., 2024), Mistral's dense models, and Aquila 1
// and 2, whose tensors are LLaMA's. Switches: models.llama.configuration_llama of transformers.
#include <nlohmann/json.hpp>

#include "base/registry.h"
#include "model/decoder/config.h"

namespace flagscale::model::llama {
namespace {

void read(const nlohmann::json& json, DecoderConfig& config) {
  const auto flag = [&](const char* key) {
    return json.contains(key) && json[key].is_boolean() && json[key].get<bool>();
  };
  config.qkv_bias = config.o_bias = flag("attention_bias");
  config.mlp_bias = flag("mlp_bias");
}

void write(const DecoderConfig& config, nlohmann::json& json) {
  if (!json.contains("architectures")) json["architectures"] = {"LlamaForCausalLM"};
  json["attention_bias"] = config.qkv_bias;
  json["mlp_bias"] = config.mlp_bias;
}

// Mistral's dense models: the same tensors, a sliding window in every layer unless it is null.
void read_mistral(const nlohmann::json& json, DecoderConfig& config) {
  if (json["sliding_window"].is_number_integer())
    config.sliding_window = json["sliding_window"].get<int64_t>();
}

void write_mistral(const DecoderConfig& config, nlohmann::json& json) {
  if (!json.contains("architectures")) json["architectures"] = {"MistralForCausalLM"};
  json["sliding_window"] =
      config.sliding_window > 0 ? nlohmann::json(config.sliding_window) : nlohmann::json();
}

const Registration<ModelFamily> kLlama{"llama", {read, write}};
const Registration<ModelFamily> kAquila{"aquila", {read, write}};
const Registration<ModelFamily> kMistral{
    "mistral",
    {read_mistral, write_mistral,
     R"({"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096})"}};

}  // namespace
}  // namespace flagscale::model::llama
