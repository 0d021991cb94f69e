#include "train/keys/key_groups.h"

namespace flagscale::train {
namespace {

void add_sizes(TrainSchema& keys) {
  keys.acts("num_layers", FLAGSCALE_FIELD(model, num_layers),
            {.doc = "decoder layers", .least = 1, .required = true});
  keys.acts("hidden_size", FLAGSCALE_FIELD(model, hidden_size),
            {.doc = "width of the residual stream", .least = 1, .required = true});
  keys.acts("ffn_hidden_size", FLAGSCALE_FIELD(model, ffn_hidden_size),
            {.doc = "width of the feed-forward layer; none: 4 hidden_size · 2/3, changed by "
                    "hidden_dim_multiplier and multiple_of",
             .least = 1});
  keys.acts(
      "multiple_of", FLAGSCALE_FIELD(model, multiple_of),
      {.doc = "without ffn_hidden_size: round the width up to a multiple of this (else down to one of 64)",
       .least = 1});
  keys.acts(
      "hidden_dim_multiplier", FLAGSCALE_FIELD(model, hidden_dim_multiplier),
      {.doc = "without ffn_hidden_size: multiply the width by this first; needs multiple_of", .above = 0});
  keys.acts("num_attention_heads", FLAGSCALE_FIELD(model, num_attention_heads),
            {.doc = "query heads", .least = 1, .required = true});
  keys.acts("group_query_attention", FLAGSCALE_FIELD(model, group_query_attention),
            {.doc = "key and value heads are shared, num_query_groups of them"});
  keys.acts("num_query_groups", FLAGSCALE_FIELD(model, num_query_groups),
            {.doc = "key and value heads; without group_query_attention it changes nothing, as in Megatron",
             .least = 1});
  keys.acts("kv_channels", FLAGSCALE_FIELD(model, kv_channels),
            {.doc = "width of a head; none: hidden_size / num_attention_heads",
             .least = 1,
             .aliases = {"head_dim"}});
  keys.acts("seq_length", FLAGSCALE_FIELD(model, seq_length),
            {.doc = "tokens of a training sample", .least = 1, .required = true});
  keys.acts("max_position_embeddings", FLAGSCALE_FIELD(model, max_position_embeddings),
            {.doc = "longest sequence that the model is made for", .least = 1, .required = true});
}

void add_switches(TrainSchema& keys) {
  keys.acts("normalization", FLAGSCALE_FIELD(model, normalization),
            {.doc = "kind of norm; only RMSNorm is supported", .choices = {"RMSNorm", "LayerNorm"}});
  keys.acts("norm_epsilon", FLAGSCALE_FIELD(model, norm_epsilon),
            {.doc = "added to the mean square in a norm", .above = 0, .aliases = {"layernorm_epsilon"}});
  keys.acts("swiglu", FLAGSCALE_FIELD(model, swiglu),
            {.doc = "gated feed-forward layer with SiLU; only true is supported"});
  keys.acts("untie_embeddings_and_output_weights",
            FLAGSCALE_FIELD(model, untie_embeddings_and_output_weights),
            {.doc = "the output layer has weights of its own; absent or false: the embedding's"});
  keys.acts("add_qkv_bias", FLAGSCALE_FIELD(model, add_qkv_bias),
            {.doc = "biases on the query, key and value projections"});
  keys.acts("disable_bias_linear", FLAGSCALE_FIELD(model, disable_bias_linear),
            {.doc = "no biases on linear layers; absent or false: on all of them"});
  keys.acts("qk_layernorm", FLAGSCALE_FIELD(model, qk_layernorm),
            {.doc = "a norm on each head's query and key before rotation"});
  keys.acts(
      "window_size", FLAGSCALE_FIELD(model, window_size),
      {.doc = "sliding-window attention in every layer: how many tokens before one it sees, and how many "
              "behind it, which are 0; -1 before: all",
       .least = -1});
  keys.acts(
      "init_method_std", FLAGSCALE_FIELD(model, init_method_std),
      {.doc =
           "standard deviation of initial weights; output projections have it divided by sqrt(2 num_layers)",
       .above = 0});
  keys.acts("hf_model_type", FLAGSCALE_FIELD(model, hf_model_type),
            {.doc = "family that an export is written as, a name of Hugging Face's config.json; none: chosen "
                    "by the switches"});
}

void add_positions(TrainSchema& keys) {
  keys.acts("position_embedding_type", FLAGSCALE_FIELD(model, position_embedding_type),
            {.doc = "only rope is supported",
             .choices = {"learned_absolute", "rope", "none", "mrope", "relative", "yarn"}});
  keys.acts("use_rotary_position_embeddings", FLAGSCALE_FIELD(model, use_rotary_position_embeddings),
            {.doc = "the same as position_embedding_type: rope"});
  keys.acts("rotary_base", FLAGSCALE_FIELD(model, rotary_base),
            {.doc = "base of the rotary frequencies", .above = 0, .aliases = {"rope_theta"}});
  keys.acts("use_rope_scaling", FLAGSCALE_FIELD(model, use_rope_scaling),
            {.doc = "scale the rotary frequencies as LLaMA 3.1 does"});
  keys.acts("rope_scaling_factor", FLAGSCALE_FIELD(model, rope_scaling_factor),
            {.doc = "factor of use_rope_scaling", .least = 1});
  keys.ignored("no_position_embedding", "rotary positions replace added ones");
  keys.refused("rotary_percent", "rotating only a part of each head", {"1"});
  keys.refused("rotary_seq_len_interpolation_factor", "interpolated positions", {"1"});
  keys.refused("rotary_interleaved", "rotating neighbouring elements instead of halves");
}

}  // namespace

void add_model_keys(TrainSchema& keys) {
  add_sizes(keys);
  add_switches(keys);
  add_positions(keys);
  keys.bring(kStartingModel, {"num_layers",
                              "hidden_size",
                              "ffn_hidden_size",
                              "num_attention_heads",
                              "group_query_attention",
                              "num_query_groups",
                              "kv_channels",
                              "max_position_embeddings",
                              "normalization",
                              "norm_epsilon",
                              "swiglu",
                              "untie_embeddings_and_output_weights",
                              "add_qkv_bias",
                              "disable_bias_linear",
                              "qk_layernorm",
                              "window_size",
                              "hf_model_type",
                              "position_embedding_type",
                              "use_rotary_position_embeddings",
                              "rotary_base",
                              "use_rope_scaling",
                              "rope_scaling_factor"});
  keys.ignored("norm_init_weight", "FlagScale reads it and never uses it: norms start at one");
  keys.refused("attention_dropout", "dropout in attention", {"0"});
  keys.refused("hidden_dropout", "dropout after a layer", {"0"});
  keys.refused("apply_layernorm_1p", "norm weights stored as their difference from one");
  keys.refused("apply_residual_connection_post_layernorm", "residuals taken after the norm");
  keys.refused("use_mup", "maximal update parametrisation");
  keys.refused("squared_relu", "another activation");
}

}  // namespace flagscale::train
