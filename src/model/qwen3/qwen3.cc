// Qwen3 dense (Yang et al., 2025): RMSNorm on each head's q and k before rotation, head_dim of its own.
// Switches: models.qwen3.configuration_qwen3 of transformers.
#include <nlohmann/json.hpp>

#include "base/registry.h"
#include "model/decoder/config.h"
#include "model/qwen2/window.h"

namespace flagscale::model::qwen3 {
namespace {

void read(const nlohmann::json& json, DecoderConfig& config) {
  config.qk_norm = true;
  config.qkv_bias = config.o_bias = json.contains("attention_bias") && json["attention_bias"].is_boolean() &&
                                    json["attention_bias"].get<bool>();
  read_qwen_window(json, config);
}

void write(const DecoderConfig& config, nlohmann::json& json) {
  if (!json.contains("architectures")) json["architectures"] = {"Qwen3ForCausalLM"};
  json["attention_bias"] = config.qkv_bias;
  write_qwen_window(config, json);
}

const Registration<ModelFamily> kQwen3{
    "qwen3",
    {read, write, R"({"num_key_value_heads": 32, "max_position_embeddings": 32768, "head_dim": 128})"}};

}  // namespace
}  // namespace flagscale::model::qwen3
