#include "config/experiment_keys.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/nearest.h"
#include "config/resolve.h"

namespace flagscale::config {
namespace {

using Names = std::vector<std::string>;

const Names kSections{"experiment", "train", "inference", "serve", "compress", "rl"};
const Names kBesideSections{"action", "system", "model", "data"};
const Names kExperiment{"exp_name",  "exp_dir",    "seed",       "task",        "runner",     "envs",
                        "cmds",      "shell_cmds", "deploy",     "load",        "model",      "vq_model",
                        "node_args", "auto_tuner", "save_steps", "ckpt_format", "supervision"};
const Names kTask{"type", "backend", "entrypoint", "engine"};
const Names kBackends{"native", "megatron", "vllm", "sglang", "llama_cpp",
                      "verl",   "robotics", "pi0",  "lerobot"};

bool is_map(const NodePtr& node) { return node && node->kind == Kind::kMap; }
bool is_list(const NodePtr& node) { return node->kind == Kind::kList; }

[[noreturn]] void refuse(const NodePtr& node, const std::string& path, const std::string& what,
                         const std::string& near) {
  const std::string place = describe(node->origin);
  fail(ErrorKind::kConfig, "{}{}{} {}{}", place, place.empty() ? "" : ": ", path, what,
       near.empty() ? "" : "; did you mean '" + near + "'?");
}

void check_names(const NodePtr& map, const std::string& path, const Names& known, const Composed& composed) {
  for (const Entry& entry : map->entries)
    if (!is_among(known, entry.key.text) &&
        !is_referred_to(*composed.root(), composed.hydra().get(), path + "." + entry.key.text))
      refuse(entry.value, path + "." + entry.key.text, "is no key of an experiment",
             nearest(entry.key.text, known));
}

// Variables of the user's own stand here too, and some that nobody reads: only what has the form of what it
// is nearly called is a slip.
void check_top_level(const Composed& composed) {
  for (const Entry& entry : composed.root()->entries) {
    const std::string& name = entry.key.text;
    if (is_among(kSections, name) || is_among(kBesideSections, name) ||
        is_referred_to(*composed.root(), composed.hydra().get(), name))
      continue;
    const std::string near = is_map(entry.value)    ? nearest(name, kSections)
                             : is_list(entry.value) ? ""
                                                    : nearest(name, {"action"});
    if (!near.empty()) refuse(entry.value, name, "is nothing that a task reads", near);
  }
}

// What an interpolation reads: a path, or all below it where an inner interpolation names the rest.
struct Reference {
  std::string path;
  bool all = false;
  bool reads(const std::string& at) const {
    return path == at || path.starts_with(at + ".") || (all && (path.empty() || at.starts_with(path + ".")));
  }
};

// Of "${..." in a value at `own`: a.b, a[b], and .b beside it. Nothing where a resolver is asked.
std::optional<Reference> reference(std::string_view text, std::string own) {
  const size_t end = text.find_first_of("}:$", 2);
  if (end == std::string_view::npos || text[end] == ':') return std::nullopt;
  std::string_view rest = text.substr(2, end - 2);
  const bool relative = rest.starts_with('.');
  for (; rest.starts_with('.'); rest.remove_prefix(1))
    own.resize(own.rfind('.') == std::string::npos ? 0 : own.rfind('.'));
  Reference found{relative ? own : "", text[end] == '$'};
  while (!rest.empty()) {
    const size_t stop = std::min(rest.find_first_of(".[]'\""), rest.size());
    if (stop > 0) found.path.append(found.path.empty() ? "" : ".").append(rest.substr(0, stop));
    rest.remove_prefix(std::min(stop + 1, rest.size()));
  }
  return found;
}

bool reads(const Node& node, const std::string& own, const std::string& path) {
  if (node.is_interpolation())
    for (size_t at = node.text.find("${"); at != std::string::npos; at = node.text.find("${", at + 2))
      if (const auto found = reference(std::string_view(node.text).substr(at), own);
          found && found->reads(path))
        return true;
  const std::string below = own.empty() ? "" : own + ".";
  for (size_t i = 0; i < node.items.size(); ++i)
    if (reads(*node.items[i], below + std::to_string(i), path)) return true;
  return std::any_of(node.entries.begin(), node.entries.end(),
                     [&](const Entry& entry) { return reads(*entry.value, below + entry.key.text, path); });
}

}  // namespace

bool is_referred_to(const Node& root, const Node* hydra, const std::string& path) {
  return reads(root, "", path) || (hydra && reads(*hydra, "hydra", path));
}

void check_experiment(const Composed& composed) {
  check_top_level(composed);
  const NodePtr experiment = select_raw(composed.root(), "experiment");
  if (!is_map(experiment)) return;
  check_names(experiment, "experiment", kExperiment, composed);
  const NodePtr task = select_raw(composed.root(), "experiment.task");
  if (!is_map(task)) return;
  check_names(task, "experiment.task", kTask, composed);
  const NodePtr backend = select_raw(composed.root(), "experiment.task.backend");
  if (!backend || backend->kind == Kind::kNull || backend->is_interpolation() ||
      is_among(kBackends, backend->text))
    return;
  const std::string near = nearest(backend->text, kBackends);
  refuse(backend, "experiment.task.backend",
         fmt::format("is '{}', which is no backend{}", python_str(*backend),
                     near.empty() ? fmt::format(": it is one of {}", fmt::join(kBackends, ", ")) : ""),
         near);
}

}  // namespace flagscale::config
