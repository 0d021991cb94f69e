#include "train/keys/starting_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "config/node.h"

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

// `planned`: the shape that the keys alone would make.
void compare_sizes(const TrainConfig& config, const model::DecoderConfig& planned,
                   const model::DecoderConfig& source, Comparison& result) {
  const ModelKeys& m = config.model;
  result.compare("num_layers", m.num_layers, int64_t{source.num_layers});
  result.compare("hidden_size", m.hidden_size, source.hidden_size);
  for (const char* key : {"ffn_hidden_size", "multiple_of", "hidden_dim_multiplier"})
    if (result.given(key) && planned.intermediate_size != source.intermediate_size) {
      const bool derived = key != std::string("ffn_hidden_size");
      result.add(key,
                 derived ? fmt::format("what makes ffn_hidden_size {}", planned.intermediate_size)
                         : text(planned.intermediate_size),
                 text(source.intermediate_size));
      break;  // the others follow from it
    }
  result.compare("num_attention_heads", m.num_attention_heads, int64_t{source.num_heads});
  if (planned.num_kv_heads != source.num_kv_heads)
    result.compare("group_query_attention", m.group_query_attention, source.num_kv_heads != source.num_heads);
  result.compare("num_query_groups", m.num_query_groups, int64_t{source.num_kv_heads});
  result.compare("kv_channels", m.kv_channels.value_or(0), int64_t{source.head_dim});
  if (config.tokenizer.vocab_size.value_or(0) > source.vocab_size)
    result.compare("vocab_size", *config.tokenizer.vocab_size, source.vocab_size);
}

void compare_switches(const TrainConfig& config, const model::DecoderConfig& source, Comparison& result) {
  const ModelKeys& m = config.model;
  if (static_cast<float>(m.norm_epsilon) != source.rms_norm_eps)  // 1e-5f as a double is no 1e-5
    result.compare("norm_epsilon", m.norm_epsilon, std::stod(fmt::format("{:g}", source.rms_norm_eps)));
  result.compare("untie_embeddings_and_output_weights", m.untie_embeddings_and_output_weights,
                 !source.tie_embeddings);
  // A family may have biases on some layers only: then neither value contradicts it.
  if (source.o_bias == source.mlp_bias)
    result.compare("disable_bias_linear", m.disable_bias_linear, !source.o_bias);
  if (m.add_qkv_bias || !source.o_bias) result.compare("add_qkv_bias", m.add_qkv_bias, source.qkv_bias);
  result.compare("qk_layernorm", m.qk_layernorm, source.qk_norm);
  result.compare("hf_model_type", m.hf_model_type, source.model_type);
}

void compare_mixtures(const MoeKeys& m, const model::DecoderConfig& planned,
                      const model::DecoderConfig& source, Comparison& result) {
  const model::MoeConfig& found = source.moe;
  result.compare("num_experts", m.num_experts.value_or(0), int64_t{found.experts});
  result.compare("moe_router_topk", m.moe_router_topk, int64_t{found.top_k});
  result.compare("moe_ffn_hidden_size", m.moe_ffn_hidden_size.value_or(0), found.size);
  result.compare("moe_shared_expert_intermediate_size", m.moe_shared_expert_intermediate_size.value_or(0),
                 found.shared_size);
  result.compare("moe_router_pre_softmax", m.moe_router_pre_softmax, !found.normalise);
  if (result.given("moe_layer_freq") && planned.moe.dense != found.dense)
    result.add("moe_layer_freq", m.moe_layer_freq,
               fmt::format("layers [{}] without experts", fmt::join(found.dense, ", ")));
}

void compare_positions(const ModelKeys& m, const op::RopeSpec& rope, Comparison& result) {
  result.compare("rotary_base", m.rotary_base, rope.theta);
  if (result.given("use_rope_scaling") && m.use_rope_scaling != (rope.type == "llama3"))
    result.add("use_rope_scaling", text(m.use_rope_scaling), fmt::format("scaling '{}'", rope.type));
  if (m.use_rope_scaling) result.compare("rope_scaling_factor", m.rope_scaling_factor, rope.factor);
}

}  // namespace

void start_from(const TrainConfig& config, const model::DecoderConfig& source, const std::string& path,
                TrainOptions& options) {
  Comparison comparison(config);
  compare_sizes(config, options.model, source, comparison);
  compare_switches(config, source, comparison);
  compare_mixtures(config.moe, options.model, source, comparison);
  compare_positions(config.model, source.rope, comparison);
  if (!comparison.lines().empty())
    fail(ErrorKind::kConfig,
         "{} is another model than the configuration asks for:\n  {}\nTraining starts from these weights: "
         "give "
         "the keys their values, or leave out those that are not required",
         path, fmt::join(comparison.lines(), "\n  "));
  options.model = source;
  options.model.moe.balance_loss = static_cast<float>(options.balance_loss);
  options.model.max_positions =
      std::max({source.max_positions, options.seq_length, config.model.max_position_embeddings});
  options.data.vocab_size = source.vocab_size;
  options.init_from = path;
}

}  // namespace flagscale::train
