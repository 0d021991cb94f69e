#include "model/qwen2_moe/mixture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flagscale::model {

namespace {

// Absent keys have the family's defaults already.
int64_t integer(const nlohmann::json& json, const char* key, int64_t least, int64_t most) {
  const auto it = json.find(key);
  if (it == json.end() || !it->is_number_integer() || it->get<int64_t>() < least || it->get<int64_t>() > most)
    fail(ErrorKind::kCorrupt, "config.json: {} is {}, expected {}..{}", key,
         it == json.end() ? "absent" : it->dump(), least, most);
  return it->get<int64_t>();
}

}  // namespace

void read_experts(const nlohmann::json& json, int absent, DecoderConfig& config) {
  MoeConfig& m = config.moe;
  m.experts = absent;
  for (const char* key : {"num_local_experts", "num_experts"})
    if (json.contains(key)) m.experts = static_cast<int>(integer(json, key, 1, 1 << 16));
  m.top_k = static_cast<int>(integer(json, "num_experts_per_tok", 1, m.experts));
  if (json.contains("router_aux_loss_coef") && json["router_aux_loss_coef"].is_number())
    m.balance_loss = json["router_aux_loss_coef"].get<float>();
}

void write_experts(const DecoderConfig& config, const char* key, nlohmann::json& json) {
  json.erase("num_experts");
  json.erase("num_local_experts");
  json[key] = config.moe.experts;
  json["num_experts_per_tok"] = config.moe.top_k;
  json["router_aux_loss_coef"] = std::strtod(fmt::format("{:g}", config.moe.balance_loss).c_str(), nullptr);
}

void read_qwen_mixture(const nlohmann::json& json, int absent, DecoderConfig& config) {
  read_experts(json, absent, config);
  MoeConfig& m = config.moe;
  m.size = integer(json, "moe_intermediate_size", 1, 1 << 24);
  m.normalise = json.contains("norm_topk_prob") && json["norm_topk_prob"].is_boolean() &&
                json["norm_topk_prob"].get<bool>();
  const int64_t step = integer(json, "decoder_sparse_step", 1, 1 << 20);
  const auto only = json.find("mlp_only_layers");
  const auto listed = [&](int layer) {
    return only != json.end() && only->is_array() &&
           std::find(only->begin(), only->end(), layer) != only->end();
  };
  m.dense.clear();
  for (int layer = 0; layer < config.num_layers; ++layer)
    if ((layer + 1) % step != 0 || listed(layer)) m.dense.push_back(layer);
}

// Which layers are dense is said by the list alone.
void write_qwen_mixture(const DecoderConfig& config, nlohmann::json& json) {
  write_experts(config, "num_experts", json);
  const MoeConfig& m = config.moe;
  json["moe_intermediate_size"] = m.size;
  json["norm_topk_prob"] = m.normalise;
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = m.dense;
}

}  // namespace flagscale::model
