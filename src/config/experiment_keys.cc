#include "config/experiment_keys.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/nearest.h"
#include "config/resolve.h"

namespace flagscale::config {
namespace {

using Names = std::vector<std::string>;

const Names kSections{"experiment", "train",  "inference", "serve", "compress",
                      "rl",         "action", "system",    "model", "data"};
const Names kExperiment{"exp_name",  "exp_dir",    "seed",       "task",        "runner",     "envs",
                        "cmds",      "shell_cmds", "deploy",     "load",        "model",      "vq_model",
                        "node_args", "auto_tuner", "save_steps", "ckpt_format", "supervision"};
const Names kTask{"type", "backend", "entrypoint", "engine"};
const Names kBackends{"native", "megatron", "vllm", "sglang", "llama_cpp",
                      "verl",   "robotics", "pi0",  "lerobot"};

bool is_map(const NodePtr& node) { return node && node->kind == Kind::kMap; }

[[noreturn]] void refuse(const NodePtr& node, const std::string& path, const std::string& what,
                         const std::string& near) {
  const std::string place = describe(node->origin);
  fail(ErrorKind::kConfig, "{}{}{} {}{}", place, place.empty() ? "" : ": ", path, what,
       near.empty() ? "" : "; did you mean '" + near + "'?");
}

void check_names(const NodePtr& map, const std::string& path, const Names& known, const Node& root) {
  for (const Entry& entry : map->entries)
    if (std::find(known.begin(), known.end(), entry.key.text) == known.end() &&
        !is_referred_to(root, path + "." + entry.key.text))
      refuse(entry.value, path + "." + entry.key.text, "is no key of an experiment",
             nearest(entry.key.text, known));
}

// Variables of the user's own stand here too, and some that nobody reads.
void check_top_level(const Node& root) {
  for (const Entry& entry : root.entries) {
    const std::string& name = entry.key.text;
    if (std::find(kSections.begin(), kSections.end(), name) != kSections.end() || is_referred_to(root, name))
      continue;
    if (const std::string near = nearest(name, kSections); !near.empty())
      refuse(entry.value, name, "is nothing that a task reads", near);
  }
}

}  // namespace

bool is_referred_to(const Node& node, const std::string& path) {
  if (node.kind == Kind::kString && node.is_interpolation()) {
    const size_t at = node.text.find(path);
    const size_t end = at == std::string::npos ? at : at + path.size();
    if (end < node.text.size() && std::string_view("}.[ ,:").find(node.text[end]) != std::string_view::npos)
      return true;
  }
  return std::any_of(node.items.begin(), node.items.end(),
                     [&](const NodePtr& item) { return is_referred_to(*item, path); }) ||
         std::any_of(node.entries.begin(), node.entries.end(),
                     [&](const Entry& entry) { return is_referred_to(*entry.value, path); });
}

void check_experiment(const Composed& composed) {
  check_top_level(*composed.root());
  const NodePtr experiment = select_raw(composed.root(), "experiment");
  if (!is_map(experiment)) return;
  check_names(experiment, "experiment", kExperiment, *composed.root());
  const NodePtr task = select_raw(composed.root(), "experiment.task");
  if (!is_map(task)) return;
  check_names(task, "experiment.task", kTask, *composed.root());
  const NodePtr backend = select_raw(composed.root(), "experiment.task.backend");
  if (!backend || backend->kind == Kind::kNull || backend->is_interpolation() ||
      std::find(kBackends.begin(), kBackends.end(), backend->text) != kBackends.end())
    return;
  const std::string near = nearest(backend->text, kBackends);
  refuse(backend, "experiment.task.backend",
         fmt::format("is '{}', which is no backend{}", python_str(*backend),
                     near.empty() ? fmt::format(": it is one of {}", fmt::join(kBackends, ", ")) : ""),
         near);
}

}  // namespace flagscale::config
