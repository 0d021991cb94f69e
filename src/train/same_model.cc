#include "train/same_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"

namespace flagscale::train {
namespace {

class Differences {
 public:
  template <class T>
  void compare(const char* key, const T& wanted, const T& saved) {
    if (wanted != saved) lines_.push_back(fmt::format("{} is {}, the checkpoint has {}", key, wanted, saved));
  }
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  std::vector<std::string> lines_;
};

Differences shape_differences(const model::DecoderConfig& wanted, const model::DecoderConfig& saved) {
  Differences found;
  found.compare("num_layers", wanted.num_layers, saved.num_layers);
  found.compare("hidden_size", wanted.hidden_size, saved.hidden_size);
  found.compare("ffn_hidden_size", wanted.intermediate_size, saved.intermediate_size);
  found.compare("num_attention_heads", wanted.num_heads, saved.num_heads);
  found.compare("num_query_groups", wanted.num_kv_heads, saved.num_kv_heads);
  found.compare("kv_channels", wanted.head_dim, saved.head_dim);
  found.compare("vocab_size", wanted.vocab_size, saved.vocab_size);
  found.compare("untie_embeddings_and_output_weights", !wanted.tie_embeddings, !saved.tie_embeddings);
  found.compare("add_qkv_bias", wanted.qkv_bias, saved.qkv_bias);
  found.compare("disable_bias_linear", !wanted.o_bias, !saved.o_bias);
  found.compare("qk_layernorm", wanted.qk_norm, saved.qk_norm);
  found.compare("num_experts", wanted.moe.experts, saved.moe.experts);
  if (wanted.moe.experts == 0 || wanted.moe.experts != saved.moe.experts) return found;
  found.compare("moe_router_topk", wanted.moe.top_k, saved.moe.top_k);
  found.compare("moe_ffn_hidden_size", wanted.moe.size, saved.moe.size);
  found.compare("moe_shared_expert_intermediate_size", wanted.moe.shared_size, saved.moe.shared_size);
  found.compare("moe_router_pre_softmax", !wanted.moe.normalise, !saved.moe.normalise);
  found.compare("moe_layer_freq (layers without experts)", wanted.moe.dense, saved.moe.dense);
  return found;
}

Differences changeable_differences(const model::DecoderConfig& wanted, const model::DecoderConfig& saved) {
  Differences found;
  found.compare("norm_epsilon", wanted.rms_norm_eps, saved.rms_norm_eps);
  found.compare("rotary_base", wanted.rope.theta, saved.rope.theta);
  found.compare("use_rope_scaling", wanted.rope.type == "llama3", saved.rope.type == "llama3");
  found.compare("rope_scaling_factor", wanted.rope.factor, saved.rope.factor);
  found.compare("window_size (tokens seen, 0: all)", wanted.sliding_window, saved.sliding_window);
  return found;
}

}  // namespace

void require_same_model(const io::Checkpoint& checkpoint, const model::DecoderConfig& model) {
  const auto it = checkpoint.state().extra.find("config.json");
  if (it == checkpoint.state().extra.end()) return;  // of a program that did not write it yet
  const model::DecoderConfig saved = model::parse_config(it->second);
  // Both as written and read again: what the file cannot say, or rounds, is no difference.
  const model::DecoderConfig wanted = model::parse_config(model::write_config(model, "float32"));
  const Differences shape = shape_differences(wanted, saved);
  if (!shape.lines().empty())
    fail(
        ErrorKind::kInvalidArgument,
        "{} is of another model than the configuration asks for:\n  {}\nSet them as in the run that made it, "
        "or train the other model in a folder of its own (experiment.exp_dir)",
        checkpoint.folder(), fmt::join(shape.lines(), "\n  "));
  if (const Differences changed = changeable_differences(wanted, saved); !changed.lines().empty())
    warn("the model is not quite that of the run that made the checkpoint: {}",
         fmt::join(changed.lines(), "; "));
}

}  // namespace flagscale::train
