// Qwen1.5-MoE and Qwen2-MoE (Yang et al., 2024): Qwen2's blocks; weights of a token's experts as the softmax
// gives them; shared experts behind a sigmoid gate. Switches: models.qwen2_moe.configuration_qwen2_moe of
// transformers.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/registry.h"
#include "model/decoder/config.h"
#include "model/qwen2_moe/mixture.h"

namespace flagscale::model::qwen2_moe {
namespace {

void read(const nlohmann::json& json, DecoderConfig& config) {
  const auto flag = [&](const char* key, bool absent) {
    return json.contains(key) && json[key].is_boolean() ? json[key].get<bool>() : absent;
  };
  if (flag("use_sliding_window", false))
    fail(ErrorKind::kUnsupported,
         "config.json: use_sliding_window is true: windows in every other layer are not supported for "
         "qwen2_moe");
  config.qkv_bias = flag("qkv_bias", true);
  read_qwen_mixture(json, 60, config);
  config.moe.shared_size = json["shared_expert_intermediate_size"].is_number_integer()
                               ? json["shared_expert_intermediate_size"].get<int64_t>()
                               : 0;
  if (config.moe.shared_size < 1)
    fail(ErrorKind::kCorrupt, "config.json: shared_expert_intermediate_size is {}, expected a width",
         json["shared_expert_intermediate_size"].dump());
}

void write(const DecoderConfig& config, nlohmann::json& json) {
  if (config.moe.shared_size == 0 || config.qk_norm || config.o_bias)
    fail(ErrorKind::kUnsupported,
         "a qwen2_moe has shared experts, no norms on q and k, and no bias on o: this model cannot be "
         "written as one");
  if (!json.contains("architectures")) json["architectures"] = {"Qwen2MoeForCausalLM"};
  json["qkv_bias"] = config.qkv_bias;
  json["use_sliding_window"] = false;
  json["shared_expert_intermediate_size"] = config.moe.shared_size;
  write_qwen_mixture(config, json);
}

const Registration<ModelFamily> kQwen2Moe{
    "qwen2_moe",
    {read,
     write,
     R"({"num_key_value_heads": 16, "max_position_embeddings": 32768, "num_experts_per_tok": 4,
         "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "decoder_sparse_step": 1,
         "router_aux_loss_coef": 0.001})",
     {"mlp."}}};

}  // namespace
}  // namespace flagscale::model::qwen2_moe
