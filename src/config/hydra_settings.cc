#include "config/hydra_settings.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/nearest.h"
#include "config/edit.h"
#include "config/resolve.h"
#include "config/yaml.h"

namespace flagscale::config {
namespace {

constexpr const char* kSettings = R"(
run: {dir: outputs}
sweep: {dir: multirun, subdir: null}
launcher: {_target_: null}
sweeper: {_target_: null, max_batch_size: null, params: {}}
help: {app_name: null, header: null, footer: null, template: null}
hydra_help: {template: null, hydra_help: null}
hydra_logging: {version: 1, formatters: {}, handlers: {}, root: {level: INFO, handlers: []}, loggers: {}, disable_existing_loggers: false}
job_logging: {version: 1, formatters: {}, handlers: {}, root: {level: INFO, handlers: []}, disable_existing_loggers: false}
env: {}
mode: RUN
searchpath: []
callbacks: {}
output_subdir: .hydra
overrides: {hydra: [], task: []}
job:
  name: null
  chdir: null
  override_dirname: null
  id: null
  num: null
  config_name: null
  env_set: {}
  env_copy: []
  config: {override_dirname: {kv_sep: null, item_sep: null, exclude_keys: []}}
runtime: {version: null, version_base: null, cwd: null, config_sources: [], output_dir: null, choices: {}}
verbose: false
)";

// Mappings that take any key.
const std::vector<std::string> kOpen{"sweeper.params", "hydra_logging", "job_logging",    "env",
                                     "callbacks",      "job.env_set",   "runtime.choices"};

bool is_open(const std::string& path) {
  return std::any_of(kOpen.begin(), kOpen.end(),
                     [&](const std::string& open) { return path == open || path.starts_with(open + "."); });
}

void check(const Node& settings, const Node& src, const std::string& path) {
  if (is_open(path)) return;
  for (const Entry& entry : src.entries) {
    const std::string key = path.empty() ? entry.key.text : path + "." + entry.key.text;
    const NodePtr known = settings.find(entry.key);
    if (!known) {
      std::vector<std::string> names;
      for (const Entry& other : settings.entries) names.push_back(other.key.text);
      const std::string near = nearest(entry.key.text, names);
      fail(ErrorKind::kConfig, "{}: Hydra has no setting 'hydra.{}'{}", describe(entry.value->origin), key,
           near.empty() ? "" : " (did you mean '" + near + "'?)");
    }
    const Node& value = *entry.value;
    if (value.is_interpolation() || value.is_missing() || value.kind == Kind::kNull) continue;
    if (known->is_container() != value.is_container() || (value.is_container() && known->kind != value.kind))
      fail(ErrorKind::kConfig, "{}: 'hydra.{}' cannot be a {}", describe(value.origin), key,
           name(value.kind));
    if (value.kind == Kind::kMap) check(*known, value, key);
  }
}

const std::map<std::string, std::vector<std::string>>& groups() {
  static const std::map<std::string, std::vector<std::string>> kGroups{
      {"hydra/env", {"default"}},
      {"hydra/help", {"default"}},
      {"hydra/hydra_help", {"default"}},
      {"hydra/hydra_logging", {"default", "disabled", "hydra_debug", "none"}},
      {"hydra/job_logging", {"default", "disabled", "none", "stdout"}},
      {"hydra/launcher", {"basic"}},
      {"hydra/output", {"default"}},
      {"hydra/sweeper", {"basic"}},
  };
  return kGroups;
}

}  // namespace

NodePtr hydra_settings() { return parse_yaml(kSettings, "hydra"); }

void merge_hydra_settings(Node& settings, const Node& src) {
  check(settings, src, "");
  merge(settings, src, Mode::kOpen);
}

void check_hydra_override(const std::string& path, const Node* value, bool add) {
  static const NodePtr kTree = hydra_settings();
  const std::string inner = path.substr(std::min(path.size(), std::string("hydra.").size()));
  const NodePtr known = select_raw(kTree, inner);
  if (!known && !add && !is_open(inner.substr(0, inner.rfind('.'))))
    fail(ErrorKind::kConfig, "Hydra has no setting '{}'", path);
  if (known && value != nullptr && value->is_container() && !known->is_container())
    fail(ErrorKind::kConfig, "'{}' cannot be a {}", path, name(value->kind));
}

bool is_hydra_group(const std::string& group) { return groups().contains(group); }

const std::vector<std::string>& hydra_options(const std::string& group) { return groups().at(group); }

}  // namespace flagscale::config
