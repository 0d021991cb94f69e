#include "train/keys/starting_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "config/node.h"
#include "io/checkpoint.h"
#include "model/config_at.h"
#include "model/peft.h"
#include "train/keys/moe_layers.h"

namespace flagscale::train {
namespace {

std::string text(int64_t value) { return std::to_string(value); }
std::string text(double value) { return config::python_float(value); }
std::string text(bool value) { return value ? "true" : "false"; }
std::string text(const std::string& value) { return value; }

class Comparison {
 public:
  explicit Comparison(const TrainConfig& config) : config_(config) {}

  bool given(const std::string& key) const { return config_.places.contains(key); }

  template <class T>
  void compare(const std::string& key, const T& wanted, const T& found) {
    if (given(key) && wanted != found) add(key, text(wanted), text(found));
  }
  void add(const std::string& key, const std::string& wanted, const std::string& found) {
    lines_.push_back(fmt::format("{} is {}, the weights have {}", config_.places.at(key), wanted, found));
  }
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  const TrainConfig& config_;
  std::vector<std::string> lines_;
};

void compare_sizes(const TrainConfig& config, const model::DecoderConfig& source, Comparison& result) {
  ModelKeys m = config.model;
  if (!result.given("hidden_size")) m.hidden_size = source.hidden_size;
  if (!result.given("num_attention_heads")) m.num_attention_heads = source.num_heads;
  result.compare("num_layers", m.num_layers, int64_t{source.num_layers});
  result.compare("hidden_size", m.hidden_size, source.hidden_size);
  for (const char* key : {"ffn_hidden_size", "multiple_of", "hidden_dim_multiplier"})
    if (result.given(key) && ffn_width(m) != source.intermediate_size) {
      const bool derived = key != std::string("ffn_hidden_size");
      result.add(key,
                 derived ? fmt::format("what makes ffn_hidden_size {}", ffn_width(m)) : text(ffn_width(m)),
                 text(source.intermediate_size));
      break;  // the others follow from it
    }
  result.compare("num_attention_heads", m.num_attention_heads, int64_t{source.num_heads});
  if ((m.group_query_attention ? m.num_query_groups : m.num_attention_heads) != source.num_kv_heads)
    result.compare("group_query_attention", m.group_query_attention, source.num_kv_heads != source.num_heads);
  result.compare("num_query_groups", m.num_query_groups, int64_t{source.num_kv_heads});
  result.compare("kv_channels", m.kv_channels.value_or(0), int64_t{source.head_dim});
  if (config.tokenizer.vocab_size.value_or(0) > source.vocab_size)
    result.compare("vocab_size", *config.tokenizer.vocab_size, source.vocab_size);
}

void compare_switches(const TrainConfig& config, const model::DecoderConfig& source, Comparison& result) {
  const ModelKeys& m = config.model;
  result.compare<std::string>("normalization", m.normalization, "RMSNorm");
  result.compare("swiglu", m.swiglu, true);
  if (static_cast<float>(m.norm_epsilon) != source.rms_norm_eps)  // 1e-5f as a double is no 1e-5
    result.compare("norm_epsilon", m.norm_epsilon, std::stod(fmt::format("{:g}", source.rms_norm_eps)));
  result.compare("untie_embeddings_and_output_weights", m.untie_embeddings_and_output_weights,
                 !source.tie_embeddings);
  // A family may have biases on some layers only: then neither value contradicts it.
  if (source.o_bias == source.mlp_bias)
    result.compare("disable_bias_linear", m.disable_bias_linear, !source.o_bias);
  if (m.add_qkv_bias || !source.o_bias) result.compare("add_qkv_bias", m.add_qkv_bias, source.qkv_bias);
  result.compare("qk_layernorm", m.qk_layernorm, source.qk_norm);
  if (result.given("window_size") && window_of(m) != source.sliding_window)
    result.add("window_size", fmt::format("[{}]", fmt::join(m.window_size, ", ")),
               source.sliding_window > 0 ? fmt::format("[{}, 0]", source.sliding_window - 1) : "none");
  result.compare("hf_model_type", m.hf_model_type, source.model_type);
}

void compare_mixtures(const MoeKeys& m, const model::DecoderConfig& source, Comparison& result) {
  const model::MoeConfig& found = source.moe;
  result.compare("num_experts", m.num_experts.value_or(0), int64_t{found.experts});
  result.compare("moe_router_topk", m.moe_router_topk, int64_t{found.top_k});
  result.compare("moe_ffn_hidden_size", m.moe_ffn_hidden_size.value_or(0), found.size);
  result.compare("moe_shared_expert_intermediate_size", m.moe_shared_expert_intermediate_size.value_or(0),
                 found.shared_size);
  if (found.shared_size > 0) result.compare("moe_shared_expert_gate", m.moe_shared_expert_gate, true);
  result.compare("moe_router_pre_softmax", m.moe_router_pre_softmax, !found.normalise);
  if (result.given("moe_layer_freq") && dense_layers(m.moe_layer_freq, source.num_layers) != found.dense)
    result.add("moe_layer_freq", m.moe_layer_freq,
               fmt::format("layers [{}] without experts", fmt::join(found.dense, ", ")));
}

void compare_positions(const ModelKeys& m, const op::RopeSpec& rope, Comparison& result) {
  if (!m.use_rotary_position_embeddings && m.position_embedding_type != "rope")
    result.compare<std::string>("position_embedding_type", m.position_embedding_type, "rope");
  if (!result.given("position_embedding_type"))
    result.compare("use_rotary_position_embeddings", m.use_rotary_position_embeddings, true);
  result.compare("rotary_base", m.rotary_base, rope.theta);
  if (result.given("use_rope_scaling") && m.use_rope_scaling != (rope.type == "llama3"))
    result.add("use_rope_scaling", text(m.use_rope_scaling), fmt::format("scaling '{}'", rope.type));
  if (m.use_rope_scaling) result.compare("rope_scaling_factor", m.rope_scaling_factor, rope.factor);
}

}  // namespace

std::optional<StartingModel> starting_model(const CheckpointKeys& keys) {
  std::string path = keys.pretrained_checkpoint;
  if (keys.finetune && io::is_checkpoint(keys.load) && !model::holds_adapter(io::Checkpoint(keys.load)))
    path = keys.load;
  if (path.empty() || !std::filesystem::exists(path)) return {};
  return StartingModel{path, model::config_at(path)};
}

model::DecoderConfig starting_shape(const TrainConfig& config) {
  const auto& [path, source] = *config.start;
  Comparison comparison(config);
  compare_sizes(config, source, comparison);
  compare_switches(config, source, comparison);
  compare_mixtures(config.moe, source, comparison);
  compare_positions(config.model, source.rope, comparison);
  if (!comparison.lines().empty())
    fail(ErrorKind::kConfig,
         "{} is another model than the configuration asks for:\n  {}\nTraining starts from these weights, "
         "which "
         "bring their shape: leave these keys out, or give them the weights' values",
         path, fmt::join(comparison.lines(), "\n  "));
  model::DecoderConfig shape = source;
  shape.max_positions =
      std::max({source.max_positions, config.model.seq_length, config.model.max_position_embeddings});
  return shape;
}

}  // namespace flagscale::train
