// Mixtral (Jiang et al., 2024): Mistral's blocks with a mixture of experts in every layer. Switches:
// models.mixtral.configuration_mixtral of transformers.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/registry.h"
#include "model/decoder/config.h"
#include "model/qwen2_moe/mixture.h"

namespace flagscale::model::mixtral {
namespace {

void read(const nlohmann::json& json, DecoderConfig& config) {
  read_experts(json, 8, config);
  config.moe.size = config.intermediate_size;
  if (json.contains("sliding_window") && json["sliding_window"].is_number_integer())
    config.sliding_window = json["sliding_window"].get<int64_t>();
}

void write(const DecoderConfig& config, nlohmann::json& json) {
  if (!json.contains("architectures")) json["architectures"] = {"MixtralForCausalLM"};
  const MoeConfig& m = config.moe;
  if (!m.dense.empty() || m.shared_size > 0 || !m.normalise || config.qkv_bias || config.qk_norm)
    fail(ErrorKind::kUnsupported,
         "a Mixtral has a mixture in every layer, weights that add up to one, and no shared experts, biases "
         "or "
         "norms on q and k: this model cannot be written as one");
  write_experts(config, "num_local_experts", json);
  json["intermediate_size"] = m.size;
  json["sliding_window"] =
      config.sliding_window > 0 ? nlohmann::json(config.sliding_window) : nlohmann::json();
}

const Registration<ModelFamily> kMixtral{
    "mixtral",
    {read,
     write,
     R"({"num_key_value_heads": 8, "max_position_embeddings": 131072, "rope_theta": 1e6, "rms_norm_eps": 1e-5,
         "num_experts_per_tok": 2})",
     {"block_sparse_moe.", "w1", "w3", "w2"}}};

}  // namespace
}  // namespace flagscale::model::mixtral
