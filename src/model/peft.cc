#include "model/peft.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/folder_aside.h"
#include "io/safetensors_writer.h"

namespace flagscale::model {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr uintmax_t kMostConfigBytes = 1 << 20;

struct Config {
  std::string file;
  Json json;

  bool is_set(const char* key) const {  // to something that acts
    const auto it = json.find(key);
    return it != json.end() && !it->is_null() && *it != Json(false) && *it != Json("") &&
           !(it->is_structured() && it->empty());
  }
  double number(const char* key) const {
    const auto it = json.find(key);
    if (it == json.end() || !it->is_number() || !(it->get<double>() > 0) || it->get<double>() > 1e6)
      fail(ErrorKind::kCorrupt, "{}: {} must be a positive number", file, key);
    return it->get<double>();
  }
};

Config parse_config(const std::string& file, const std::string& text) {
  Config config{file, Json::parse(text, nullptr, false)};
  if (!config.json.is_object()) fail(ErrorKind::kCorrupt, "{} is not a JSON object", config.file);
  return config;
}

Config read_config(const fs::path& folder) {
  const fs::path path = folder / "adapter_config.json";
  std::error_code error;
  if (!fs::exists(path, error) && !error)
    fail(ErrorKind::kNotFound, "{} is no folder of a PEFT adapter: it has no adapter_config.json",
         folder.string());
  return parse_config(path.string(), io::read_text(path.string(), kMostConfigBytes));
}

// Of a checkpoint; empty where it is of a whole model.
std::string checkpoint_config(const io::Checkpoint& checkpoint) {
  const auto& extra = checkpoint.state().extra;
  const auto it = extra.find(kPeftConfigKey);
  return it == extra.end() ? "" : it->second;
}

// What would change the result and is not applied here.
void refuse_what_is_not_applied(const Config& c) {
  const auto refuse = [&](const char* key, const char* what) {
    if (c.is_set(key)) fail(ErrorKind::kUnsupported, "{}: {} is set: {}", c.file, key, what);
  };
  if (const Json type = c.json.value("peft_type", Json("LORA")); type != Json("LORA"))
    fail(ErrorKind::kUnsupported, "{}: peft_type is {}, only LORA is supported", c.file, type.dump());
  if (const Json bias = c.json.value("bias", Json("none")); bias != Json("none") && !bias.is_null())
    fail(ErrorKind::kUnsupported,
         "{}: bias is {}, only \"none\" is supported: trained biases are not applied", c.file, bias.dump());
  refuse("use_dora", "DoRA rescales the base weights, which is not supported");
  refuse("use_qalora", "QA-LoRA pools its inputs, which is not supported");
  refuse("lora_bias", "biases of B are not supported");
  refuse("modules_to_save", "modules that were trained whole are not applied");
  refuse("trainable_token_indices", "trained embeddings are not applied");
  refuse("target_parameters", "additions to bare parameters are not supported");
  refuse("layer_replication", "the base model would get further layers");
  refuse("alora_invocation_tokens", "activated LoRA is not supported");
  refuse("arrow_config", "routers over adapters are not supported");
  refuse("use_bdlora", "block-diagonal LoRA is not supported");
  refuse("kasa_config", "KaSA changes the base weights, which is not supported");
  const Json init = c.json.value("init_lora_weights", Json(true));
  for (const char* name : {"pissa", "olora", "corda", "loftq", "lora_ga"})
    if (init.is_string() && init.get<std::string>().starts_with(name))
      fail(ErrorKind::kUnsupported,
           "{}: init_lora_weights is {}: it changes the base weights, so the adapter does not fit the base "
           "model; save it converted (PEFT's path_initial_model_for_weight_conversion)",
           c.file, init.dump());
}

// rank_pattern and alpha_pattern: the value of the last part of a module's name that has one.
double pattern(const Config& c, const char* key, const std::string& module, double otherwise) {
  const auto it = c.json.find(key);
  if (it == c.json.end() || it->is_null()) return otherwise;
  if (!it->is_object()) fail(ErrorKind::kCorrupt, "{}: {} must be a mapping", c.file, key);
  for (const auto& [name, value] : it->items()) {
    if (name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") !=
        std::string::npos)
      fail(ErrorKind::kUnsupported, "{}: {} has the expression '{}'; only names of modules are supported",
           c.file, key, name);
    if (!value.is_number() || !(value.get<double>() > 0))
      fail(ErrorKind::kCorrupt, "{}: {}.{} must be a positive number", c.file, key, name);
    if (module == name || module.ends_with("." + name)) return value.get<double>();
  }
  return otherwise;
}

constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight", kPrefix = "base_model.model.";

// "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" -> "model.layers.0.self_attn.q_proj"
std::string module_of(std::string_view name, std::string_view suffix) {
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  return std::string(name.substr(0, name.size() - suffix.size()));
}

// Rows of tokens are not added to, whatever PEFT calls the tensors of such a target.
void refuse_tokens(const io::TensorInfo& tensor) {
  for (const char* module : {"lm_head", "embed_tokens"})
    if (tensor.name.find(fmt::format(".{}.", module)) != std::string::npos)
      fail(ErrorKind::kUnsupported,
           "{}: it adapts {} ({}), and adapters of {} are not supported: train it without that target",
           tensor.file, module, tensor.name, module);
}

std::map<std::string, PeftTarget> pairs_of(const io::WeightSet& weights) {
  std::map<std::string, PeftTarget> pairs;
  for (const io::TensorInfo& tensor : weights.tensors()) {
    refuse_tokens(tensor);
    const bool is_a = tensor.name.ends_with(kA), is_b = tensor.name.ends_with(kB);
    if (!is_a && !is_b)
      fail(ErrorKind::kUnsupported, "{}: {} is neither a lora_A nor a lora_B: it would not be applied",
           tensor.file, tensor.name);
    if (tensor.shape.size() != 2 || tensor.numel() == 0)
      fail(ErrorKind::kCorrupt, "{}: {} is not a matrix", tensor.file, tensor.name);
    const std::string module = module_of(tensor.name, is_a ? kA : kB);
    PeftTarget& target = pairs[module];
    target.module = module;
    (is_a ? target.a : target.b) = tensor.name;
    (is_a ? target.in : target.out) = tensor.shape[is_a ? 1 : 0];
    const int64_t rank = tensor.shape[is_a ? 0 : 1];
    if (target.rank != 0 && target.rank != rank)
      fail(ErrorKind::kCorrupt, "{}: A and B of {} have ranks {} and {}", tensor.file, module,
           is_a ? rank : target.rank, is_a ? target.rank : rank);
    target.rank = rank;
  }
  return pairs;
}

std::vector<PeftTarget> targets_of(const Config& config, const io::WeightSet& weights,
                                   const std::string& file) {
  const double r = config.number("r"), alpha = config.number("lora_alpha");
  const bool stabilised = config.is_set("use_rslora");
  std::vector<PeftTarget> targets;
  for (auto& [module, target] : pairs_of(weights)) {
    if (target.a.empty() || target.b.empty())
      fail(ErrorKind::kCorrupt, "{}: {} has {} without {}", file, module,
           target.a.empty() ? "lora_B" : "lora_A", target.a.empty() ? "lora_A" : "lora_B");
    const auto rank = static_cast<double>(target.rank);
    if (pattern(config, "rank_pattern", module, r) != rank)
      fail(ErrorKind::kCorrupt, "{}: {} has rank {}, the configuration says {}", file, module, target.rank,
           pattern(config, "rank_pattern", module, r));
    target.scale = static_cast<float>(pattern(config, "alpha_pattern", module, alpha) /
                                      (stabilised ? std::sqrt(rank) : rank));
    targets.push_back(std::move(target));
  }
  if (targets.empty()) fail(ErrorKind::kCorrupt, "{} holds no adapter", file);
  return targets;
}

}  // namespace

bool holds_adapter(const io::Checkpoint& checkpoint) {
  return checkpoint.state().extra.contains(kPeftConfigKey);
}

int64_t PeftAdapter::max_rank() const {
  int64_t most = 0;
  for (const PeftTarget& target : targets) most = std::max(most, target.rank);
  return most;
}

PeftAdapter open_peft(const std::string& path) {
  PeftAdapter adapter;
  if (io::is_checkpoint(path)) {
    const io::Checkpoint checkpoint(path);
    const std::string text = checkpoint_config(checkpoint);
    if (text.empty())
      fail(ErrorKind::kInvalidArgument, "{} is a checkpoint of a whole model, not of an adapter", path);
    adapter.weights = io::open_weights(path);
    adapter.targets = targets_of(parse_config(checkpoint.folder(), text), *adapter.weights, path);
    return adapter;
  }
  const Config config = read_config(path);
  refuse_what_is_not_applied(config);
  const fs::path file = fs::path(path) / "adapter_model.safetensors";
  std::error_code error;
  if (!fs::is_regular_file(file, error))
    fail(ErrorKind::kNotFound, "{} has no adapter_model.safetensors{}", path,
         fs::exists(fs::path(path) / "adapter_model.bin", error)
             ? ": its adapter_model.bin is Python's pickle format, which is not read; save it anew with PEFT"
             : "");
  adapter.weights = io::open_weights(file.string());
  adapter.targets = targets_of(config, *adapter.weights, file.string());
  return adapter;
}

namespace {

// PEFT 0.21 stacks experts' adapters for transformers 5, whose experts are one parameter, by a table of
// families that Qwen2-MoE itself is not in: its experts are passed over, with no word.
void warn_of_what_peft_leaves_out(const io::Checkpoint& checkpoint, const PeftAdapter& adapter) {
  const auto config = checkpoint.state().extra.find("config.json");
  if (config == checkpoint.state().extra.end()) return;
  const Json json = Json::parse(config->second, nullptr, false);
  if (!json.is_object() || json.value("model_type", Json()) != Json("qwen2_moe")) return;
  const auto of_expert = [](const PeftTarget& target) {
    return target.module.find(".experts.") != std::string::npos;
  };
  const auto first = std::find_if(adapter.targets.begin(), adapter.targets.end(), of_expert);
  if (first == adapter.targets.end()) return;
  warn(
      "PEFT 0.21 on transformers 5 leaves out, without a word, the {} projections of a qwen2_moe's experts "
      "({} and "
      "so on) of the {} that this adapter has: its model would be another one. This program reads them all: "
      "`flagscale checkpoint merge` makes a model of them that transformers reads",
      std::count_if(adapter.targets.begin(), adapter.targets.end(), of_expert), first->module,
      adapter.targets.size());
}

}  // namespace

void export_peft(const std::string& path, const std::string& folder, io::Replace replace) {
  const io::Checkpoint checkpoint(path);
  const PeftAdapter adapter = open_peft(path);
  warn_of_what_peft_leaves_out(checkpoint, adapter);
  std::vector<io::OutputTensor> tensors;
  for (const PeftTarget& target : adapter.targets)
    for (const std::string& name : {target.a, target.b}) {
      tensors.push_back(io::from_weights(*adapter.weights, adapter.weights->info(name), DType::kF32));
      tensors.back().name = std::string(kPrefix) + name;
    }
  io::FolderAside aside(folder, {"adapter_config.json", checkpoint_config(checkpoint), io::source_mark(path)},
                        replace);
  io::write_safetensors(aside.path() + "/adapter_model.safetensors", std::move(tensors), aside.metadata());
  aside.commit();
}

}  // namespace flagscale::model
