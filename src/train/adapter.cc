#include "train/adapter.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "op/random_normal/random_normal.h"

namespace flagscale::train {

namespace {

constexpr const char* kInits[] = {"xavier", "normal", "kaiming", "gaussian", "zero"};

std::string last_of(const std::string& name) { return name.substr(name.rfind('.') + 1); }

// Megatron's name of the product that a projection is a part of.
std::string fused_name(const std::string& projection) {
  static const std::map<std::string, std::string> kNames{
      {"q_proj", "linear_qkv"},    {"k_proj", "linear_qkv"},    {"v_proj", "linear_qkv"},
      {"o_proj", "linear_proj"},   {"gate_proj", "linear_fc1"}, {"up_proj", "linear_fc1"},
      {"down_proj", "linear_fc2"}, {"w1", "linear_fc1"},        {"w3", "linear_fc1"},
      {"w2", "linear_fc2"}};
  const auto it = kNames.find(projection);
  return it == kNames.end() ? "" : it->second;
}

// "model.layers.0.self_attn.q_proj" -> "decoder.layers.0.self_attention.linear_qkv"; of experts
// "decoder.layers.0.mlp.experts.linear_fc1"
std::string megatron_name(const std::string& module) {
  std::string name = module.substr(0, module.rfind('.') + 1) + fused_name(last_of(module));
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"model.", "decoder."},
                                 {".self_attn.", ".self_attention."},
                                 {".block_sparse_moe.", ".mlp."},
                                 {".experts.*.", ".experts."}})
    if (const size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  return name;
}

bool matches_pattern(std::string_view pattern, std::string_view name) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == name;
  if (name.substr(0, star) != pattern.substr(0, star)) return false;
  pattern.remove_prefix(star + 1);
  name.remove_prefix(star);
  for (size_t skip = 0; skip <= name.size(); ++skip)
    if (matches_pattern(pattern, name.substr(skip))) return true;
  return false;
}

bool matches(const std::string& target, const std::string& name) {
  if (target.find('*') != std::string::npos) return matches_pattern(target, name);
  return name == target || name.ends_with("." + target);
}

// Of `count` matrices, one after another.
nn::Parameter matrices(const std::string& name, int64_t count, int64_t rows, int64_t columns, nn::Init init,
                       std::vector<nn::Part> parts) {
  nn::Parameter all{name, {count * rows, columns}, nn::Shard::kReplicated, init, true, std::move(parts), {},
                    {}};
  all.groups = count;
  return all;
}

}  // namespace

// Remembers which of the targets something was found for.
class Adapter::Chooser {
 public:
  explicit Chooser(const std::vector<std::string>& targets) : targets_(targets) {}
  bool operator()(const std::string& name) {
    bool chosen = false;
    known_.insert(last_of(name));
    for (const std::string& target : targets_)
      if (matches(target, name)) found_.insert(target), chosen = true;
    return chosen;
  }
  bool all(const std::string& module) {
    const bool chosen = std::count(targets_.begin(), targets_.end(), "all-linear") > 0;
    if (chosen) found_.insert("all-linear");
    return (*this)(module) || chosen;
  }
  void require_all_found() const {
    for (const std::string& target : targets_)
      if (!found_.contains(target))
        fail(ErrorKind::kConfig, "lora_target_modules: '{}' is none of the model's products: {}, all-linear",
             target, fmt::join(known_, ", "));
  }

 private:
  const std::vector<std::string>& targets_;
  std::set<std::string> found_, known_;
};

void validate(const LoraSpec& s) {
  if (s.rank < 1 || s.rank > op::kMaxLoraRank)
    fail(ErrorKind::kConfig, "lora_dim is {}, expected 1 to {}", s.rank, op::kMaxLoraRank);
  if (!(s.alpha > 0)) fail(ErrorKind::kConfig, "lora_alpha is {}, expected more than 0", s.alpha);
  if (!(s.dropout >= 0 && s.dropout < 1))
    fail(ErrorKind::kConfig, "lora_dropout is {}, expected 0 to less than 1", s.dropout);
  if (s.targets.empty()) fail(ErrorKind::kConfig, "lora_target_modules is empty: nothing would be trained");
  for (const auto& [key, method] :
       {std::pair{"lora_in_init_method", s.in_init}, {"lora_out_init_method", s.out_init}})
    if (std::find(std::begin(kInits), std::end(kInits), method) == std::end(kInits))
      fail(ErrorKind::kConfig, "{} is '{}'; known: {}", key, method, fmt::join(kInits, ", "));
  if (s.in_init == "zero" && s.out_init == "zero")
    fail(ErrorKind::kConfig,
         "lora_in_init_method and lora_out_init_method are both zero: no gradient would ever move them");
}

nn::Init init_of(const std::string& method, int64_t out, int64_t in, int64_t rank) {
  using Kind = nn::Init::Kind;
  if (method == "zero") return {Kind::kZeros, 0};
  if (method == "kaiming") return {Kind::kUniform, 1 / std::sqrt(static_cast<float>(in))};
  if (method == "normal") return {Kind::kNormal, 0.2f};
  if (method == "gaussian") return {Kind::kNormal, 1 / static_cast<float>(rank)};
  return {Kind::kNormal, std::sqrt(2 / static_cast<float>(in + out))};
}

Adapter::Adapter(model::Decoder& decoder, const LoraSpec& spec, uint64_t seed, const op::DropoutRows* rows)
    : spec_(spec), seed_(seed), rows_(rows) {
  validate(spec_);
  Chooser chosen(spec_.targets);
  for (nn::Linear* linear : decoder.linears()) add_targets(*linear, chosen);
  for (nn::ExpertLinear* linear : decoder.expert_linears()) add_targets(*linear, chosen);
  chosen.require_all_found();
}

template <class Linear>
void Adapter::add_targets(Linear& linear, Chooser& chosen) {
  const std::vector<nn::LoraPart> projections = linear.lora_parts();
  const std::string whole = megatron_name(projections[0].module);
  std::vector<Chosen> parts;
  const bool fused = chosen(whole);
  if (fused) {
    nn::LoraPart all = projections[0];
    for (size_t i = 1; i < projections.size(); ++i) all.rows += projections[i].rows;
    parts.push_back({all, projections});
  }
  for (const nn::LoraPart& projection : projections) {
    projections_[last_of(projection.module)] += static_cast<size_t>(std::max<int64_t>(projection.experts, 1));
    if (!chosen.all(projection.module)) continue;
    if (fused)
      fail(ErrorKind::kConfig, "lora_target_modules names {} twice: as itself and as a part of {}",
           projection.module, whole);
    parts.push_back({projection, {projection}});
  }
  if (parts.empty()) return;
  nn::Lora& lora = loras_.emplace_back();
  // Inputs that dropout tells apart go through matrices of their own.
  if (spec_.dropout == 0)
    add_targets(lora, parts);
  else
    for (const Chosen& part : parts) add_targets(lora, {part});
  linear.adapt(&lora);
}

nn::Parameter& Adapter::add_a(const std::vector<Chosen>& chosen) {
  const nn::LoraPart& first = chosen[0].part;
  const int64_t rank = spec_.rank, experts = std::max<int64_t>(first.experts, 1);
  std::vector<nn::Part> rows;
  for (int64_t e = 0; e < experts; ++e)
    for (const auto& [part, projections] : chosen) {
      const std::string name = part.module_of(e) + ".lora_A.weight";
      rows.push_back({name, rank});
      for (const nn::LoraPart& projection : projections)
        if (projection.module != part.module)
          copies_[name].push_back(projection.module_of(e) + ".lora_A.weight");
    }
  return list_.add(matrices(first.module + ".lora_A.weight", std::ssize(rows), rank, first.in,
                            init_of(spec_.in_init, rank, first.in, rank), rows));
}

nn::Parameter& Adapter::add_b(const Chosen& chosen) {
  const auto& [part, projections] = chosen;
  const int64_t rank = spec_.rank, experts = std::max<int64_t>(part.experts, 1);
  std::vector<nn::Part> rows;
  for (int64_t e = 0; e < experts; ++e)
    for (const nn::LoraPart& projection : projections)
      rows.push_back({projection.module_of(e) + ".lora_B.weight", projection.rows});
  return list_.add(matrices(part.module + ".lora_B.weight", experts, part.rows, rank,
                            init_of(spec_.out_init, part.rows, rank, rank), rows));
}

void Adapter::add_targets(nn::Lora& lora, const std::vector<Chosen>& chosen) {
  nn::Parameter& a = add_a(chosen);
  for (const Chosen& one : chosen) {
    nn::LoraPart part = one.part;
    part.training = {static_cast<float>(spec_.alpha / static_cast<double>(spec_.rank)),
                     0,
                     spec_.dropout_after,
                     seed_,
                     op::random_stream("lora_dropout", part.module),
                     rows_,
                     false};
    targets_.push_back({&lora, lora.parts.size(), &a, &add_b(one)});
    lora.parts.push_back(std::move(part));
  }
}

const std::vector<std::string>& Adapter::copies(const std::string& name) const {
  static const std::vector<std::string> kNone;
  const auto it = copies_.find(name);
  return it == copies_.end() ? kNone : it->second;
}

void Adapter::connect(bool dropout, bool on_host) {
  for (const Target& target : targets_) {
    nn::LoraPart& part = target.lora->parts[target.part];
    if (spec_.dropout == 0)
      target.lora->a = target.a->value;
    else
      part.a = target.a->value;
    part.b = target.b->value;
    part.training.dropout = dropout ? static_cast<float>(spec_.dropout) : 0.f;
    part.training.on_host = on_host;
  }
}

std::string Adapter::peft_config(const std::string& base_model) const {
  std::map<std::string, std::set<std::string>> targets;  // by short name
  for (const nn::Parameter& parameter : list_.parameters())
    for (const nn::Part& part : parameter.parts)
      if (constexpr std::string_view kB = ".lora_B.weight"; part.name.ends_with(kB)) {
        const std::string module = part.name.substr(0, part.name.size() - kB.size());
        targets[last_of(module)].insert(module);
      }
  std::set<std::string> modules;  // short names where all of a name are targets
  for (auto& [name, found] : targets)
    if (found.size() == projections_.at(name))
      modules.insert(name);
    else
      modules.merge(found);
  const nlohmann::ordered_json json{{"peft_type", "LORA"},
                                    {"task_type", "CAUSAL_LM"},
                                    {"base_model_name_or_path", base_model},
                                    {"r", spec_.rank},
                                    {"lora_alpha", spec_.alpha},
                                    {"lora_dropout", spec_.dropout},
                                    {"target_modules", modules},
                                    {"bias", "none"},
                                    {"fan_in_fan_out", false},
                                    {"inference_mode", true},
                                    {"init_lora_weights", true},
                                    {"use_rslora", false},
                                    {"use_dora", false},
                                    {"modules_to_save", nullptr},
                                    {"rank_pattern", nlohmann::json::object()},
                                    {"alpha_pattern", nlohmann::json::object()}};
  return json.dump(2) + "\n";
}

}  // namespace flagscale::train
