#pragma once
// The keys of a mixture of experts: those that every family has, and those that Qwen's share.

#include <nlohmann/json_fwd.hpp>

#include "model/decoder/config.h"

namespace flagscale::model {

// How many experts there are (num_experts or num_local_experts: transformers takes either name for any
// family; or `absent`), how many a token has, the coefficient of the balance loss.
void read_experts(const nlohmann::json& json, int absent, DecoderConfig& config);
void write_experts(const DecoderConfig& config, const char* key, nlohmann::json& json);

// Also their width, norm_topk_prob, and which layers have them (decoder_sparse_step, mlp_only_layers).
void read_qwen_mixture(const nlohmann::json& json, int absent, DecoderConfig& config);
void write_qwen_mixture(const DecoderConfig& config, nlohmann::json& json);

}  // namespace flagscale::model
