// Qwen3-MoE (Yang et al., 2025): Qwen3's blocks with a mixture of experts in all or some layers. Switches:
// models.qwen3_moe.configuration_qwen3_moe of transformers.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/registry.h"
#include "model/decoder/config.h"
#include "model/qwen2_moe/mixture.h"

namespace flagscale::model::qwen3_moe {
namespace {

void read(const nlohmann::json& json, DecoderConfig& config) {
  const auto flag = [&](const char* key) {
    return json.contains(key) && json[key].is_boolean() && json[key].get<bool>();
  };
  config.qk_norm = true;
  config.qkv_bias = config.o_bias = flag("attention_bias");
  // In every layer, unlike Qwen3.
  if (flag("use_sliding_window") && json["sliding_window"].is_number_integer())
    config.sliding_window = json["sliding_window"].get<int64_t>();
  read_qwen_mixture(json, 128, config);
}

void write(const DecoderConfig& config, nlohmann::json& json) {
  if (config.moe.shared_size > 0 || !config.qk_norm)
    fail(ErrorKind::kUnsupported,
         "a qwen3_moe has norms on q and k and no shared experts: this model cannot be written as one");
  if (!json.contains("architectures")) json["architectures"] = {"Qwen3MoeForCausalLM"};
  json["attention_bias"] = config.qkv_bias;
  json["use_sliding_window"] = config.sliding_window > 0;
  if (config.sliding_window > 0) json["sliding_window"] = config.sliding_window;
  write_qwen_mixture(config, json);
}

const Registration<ModelFamily> kQwen3Moe{
    "qwen3_moe",
    {read,
     write,
     R"({"num_key_value_heads": 4, "max_position_embeddings": 32768, "num_experts_per_tok": 8,
         "moe_intermediate_size": 768, "decoder_sparse_step": 1, "sliding_window": 4096,
         "router_aux_loss_coef": 0.001})",
     {"mlp."}}};

}  // namespace
}  // namespace flagscale::model::qwen3_moe
