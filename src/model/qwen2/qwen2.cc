// Qwen2, Qwen2.5 and QwQ (Yang et al., 2024): biases on q, k and v only; a sliding window from layer
// max_window_layers where use_sliding_window is set. Switches: models.qwen2.configuration_qwen2 of
// transformers.
#include <nlohmann/json.hpp>

#include "base/registry.h"
#include "model/decoder/config.h"
#include "model/qwen2/window.h"

namespace flagscale::model::qwen2 {
namespace {

void read(const nlohmann::json& json, DecoderConfig& config) {
  config.qkv_bias = true;
  read_qwen_window(json, config);
}

void write(const DecoderConfig& config, nlohmann::json& json) {
  if (!json.contains("architectures")) json["architectures"] = {"Qwen2ForCausalLM"};
  write_qwen_window(config, json);
}

const Registration<ModelFamily> kQwen2{
    "qwen2", {read, write, R"({"num_key_value_heads": 32, "max_position_embeddings": 32768})"}};

}  // namespace
}  // namespace flagscale::model::qwen2
