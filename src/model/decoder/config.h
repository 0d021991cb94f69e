#pragma once
// One decoder description with switches covers the LLaMA-like families: pre-norm, RMSNorm, rotary positions,
// grouped queries, SwiGLU. A family's folder says which switches its config.json sets.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "op/rope/rope_spec.h"

namespace flagscale::model {

// The mixture of experts in the place of some layers' feed-forward block.
struct MoeConfig {
  int experts = 0;  // 0: no mixture anywhere
  int top_k = 2;
  int64_t size = 0;          // width of an expert
  bool normalise = true;     // the weights of a token's experts add up to one
  int64_t shared_size = 0;   // width of the experts that every token has; 0: none
  std::vector<int> dense;    // layers that have no mixture, in order
  float balance_loss = 0.f;  // coefficient in training (router_aux_loss_coef)
  bool at(int layer) const;  // whether the layer is a mixture
};

struct DecoderConfig {
  std::string model_type = "llama";  // Hugging Face's name of the family
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int num_layers = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int64_t max_positions = 2048;
  float rms_norm_eps = 1e-5f;
  bool tie_embeddings = false;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;        // RMSNorm of each head's q and k before rotation
  int64_t sliding_window = 0;  // 0: none
  int first_window_layer = 0;  // layers before it see everything
  MoeConfig moe;
  op::RopeSpec rope;
  std::string source_json;  // the config.json it came from: keys we do not use are written back
  std::vector<int> eos_ids;
  int bos_id = -1;

  // Initialisation (training from scratch).
  float init_std = 0.02f;
  float norm_init = 1.0f;
};

// What a family calls a mixture's weights, within "model.layers.N.".
struct ExpertNames {
  const char* block = nullptr;  // null: it has no mixtures
  const char *gate = "gate_proj", *up = "up_proj", *down = "down_proj";
};

// What a family's folder registers: Registration<ModelFamily>{"llama", {...}}, named by config.json's
// model_type.
struct ModelFamily {
  void (*read)(const nlohmann::json& json, DecoderConfig& config);   // the switches, after the common keys
  void (*write)(const DecoderConfig& config, nlohmann::json& json);  // what the common keys do not say
  const char* defaults =
      "{}";  // JSON: what transformers takes for keys that are absent, where LLaMA's differ
  ExpertNames experts = {};
};

// Throws Error{kUnsupported} naming those there are.
const ModelFamily& model_family(const std::string& model_type);

// Reads a Hugging Face config.json. Throws Error{kUnsupported} naming an unknown model_type and those there
// are, Error{kCorrupt} for a missing or impossible key.
DecoderConfig parse_config(const std::string& json_text);

// Writes one that transformers reads, with the given dtype name.
std::string write_config(const DecoderConfig& config, const std::string& dtype);

// Elements of all weights, from the sizes alone: known before a model of them is made.
double parameter_count(const DecoderConfig& config);

// Throws Error{kInvalidArgument} naming what does not fit.
void validate(const DecoderConfig& config);

}  // namespace flagscale::model
