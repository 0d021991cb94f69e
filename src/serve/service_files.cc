#include "serve/service_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"
#include "config/experiment_keys.h"
#include "config/resolve.h"
#include "config/yaml.h"

namespace flagscale::serve {

namespace {

using config::Node;
using config::NodePtr;
using Keys = config::Schema<ServiceConfig>;

const std::vector<std::string> kEntryKeys = {"serve_id",  "engine",  "engine_args", "engine_args_specific",
                                             "resources", "profile", "entrypoint"};

std::string place(const NodePtr& node) {
  const std::string where = config::describe(node->origin);
  return where.empty() ? "" : where + ": ";
}

std::string did_you_mean(const std::string& near) {
  return near.empty() ? "" : "; did you mean '" + near + "'?";
}

// vLLM's way to write large numbers: 4k is 4,000, 4K is 4,096, 1.5G is 1.5 · 2^30.
NodePtr written_out(const NodePtr& value) {
  constexpr std::string_view kUnits = "kmgtKMGT";
  const std::string& text = value->text;
  if (value->kind != config::Kind::kString || text.size() < 2) return value;
  const size_t unit = kUnits.find(text.back());
  double number = 0;
  const char* const end = text.data() + text.size() - 1;
  if (unit == std::string_view::npos ||
      std::from_chars(text.data(), end, number, std::chars_format::fixed).ptr != end)
    return value;
  number *= std::pow(unit < 4 ? 1000.0 : 1024.0, static_cast<double>(unit % 4 + 1));
  return std::abs(number) < 9e15 ? Node::integer(static_cast<int64_t>(number)) : value;
}

void read_key(const Keys& keys, const std::string& name, const NodePtr& raw, ServiceConfig& config) {
  if (name == "no_enable_prefix_caching") {  // vLLM's spelling of a flag that is off
    bool off = false;
    config::read_value(*config::resolve(raw), off);
    config.enable_prefix_caching = !off;
    return;
  }
  const config::KeyInfo* key = keys.find(name);
  // vLLM's way to write one entry of a mapping: limit_mm_per_prompt.image.
  if (const config::KeyInfo* whole = key ? nullptr : keys.find(name.substr(0, name.find('.')));
      whole && whole->key_class == config::KeyClass::kIgnored)
    key = whole;
  if (!key)
    fail(ErrorKind::kConfig, "{}there is no engine argument '{}'{}", place(raw), name,
         did_you_mean(keys.nearest_name(name)));
  const NodePtr value = config::resolve(raw);
  if (value->kind == config::Kind::kNull) return;
  if (key->key_class == config::KeyClass::kIgnored) {
    if (key->name.ends_with("_parallel_size") && config::python_str(*value) != "1")
      info("{} is {}: the whole model runs in this one process", key->name, config::python_str(*value));
    return;
  }
  if (key->key_class == config::KeyClass::kRefused) {
    if (!config::KeyTable::is_harmless(*key, *value))
      fail(ErrorKind::kConfig, "{}engine argument '{}' is not supported: {}", place(raw), name, key->doc);
    return;
  }
  try {
    keys.read(*key, key->type == "int" ? *written_out(value) : *value, config);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{}engine argument '{}': {}", place(raw), name, error.what()));
  }
}

// The list of entries of a serve file, which may be the file itself or stand under `serve`, composed by
// defaults or not.
NodePtr serve_entries(const std::string& path) {
  NodePtr root = config::parse_yaml(config::read_text_file(path), path);
  if (root->kind == config::Kind::kMap && (root->find({"defaults"}) || root->find({"experiment"}))) {
    const std::filesystem::path file(path);
    root = config::compose(
               {file.parent_path().empty() ? "." : file.parent_path().string(), file.stem().string(), {}})
               .root();
  }
  return root->kind == config::Kind::kMap && root->find({"serve"}) ? config::resolve(root->find({"serve"}))
                                                                   : root;
}

void check_entry(const NodePtr& entry) {
  if (entry->kind != config::Kind::kMap)
    fail(ErrorKind::kConfig, "{}an entry of a serve file must be a mapping with engine_args", place(entry));
  if (entry->find({"module"}))
    fail(
        ErrorKind::kUnsupported,
        "{}this entry is a Python class of a composed service: only engine entries (engine, engine_args) are "
        "served",
        place(entry));
  for (const config::Entry& item : entry->entries)
    if (std::find(kEntryKeys.begin(), kEntryKeys.end(), item.key.text) == kEntryKeys.end())
      fail(ErrorKind::kConfig, "{}there is no key '{}' in a serve entry{}", place(item.value), item.key.text,
           did_you_mean(nearest(item.key.text, kEntryKeys)));
}

void read_entry(const NodePtr& entry, ServiceConfig& config) {
  check_entry(entry);
  const NodePtr specific = entry->find({"engine_args_specific"});
  // Common arguments win, as in FlagScale. What is for other engines alone says nothing to this one.
  if (specific && specific->kind == config::Kind::kMap)
    for (const char* engine : {"vllm", "flagscale"})
      read_arguments(service_keys(), specific->find({engine}), config);
  read_arguments(service_keys(), entry->find({"engine_args"}), config);
}

void read_entries(const NodePtr& entries, const std::string& where, ServiceConfig& config) {
  if (entries->items.empty()) fail(ErrorKind::kConfig, "{} has no entry to serve", where);
  if (entries->items.size() > 1)
    warn("{} has {} entries: the first one is served", where, entries->items.size());
  read_entry(config::resolve(entries->items[0]), config);
}

std::string text_at(const config::Composed& composed, const std::string& path) {
  const NodePtr value = composed.value(path);
  return value && !value->is_container() ? config::python_str(*value) : std::string();
}

void refuse_python_servers(const config::Composed& composed, const NodePtr& entries) {
  const std::string entrypoint = text_at(composed, "experiment.task.entrypoint");
  if (entrypoint.ends_with(".py"))
    fail(ErrorKind::kUnsupported,
         "experiment.task.entrypoint is {}: a Python server of its own; this program serves text models "
         "(entries with engine and engine_args)",
         entrypoint);
  if (!entries) fail(ErrorKind::kConfig, "the configuration has no `serve`: nothing to serve");
  if (entries->kind != config::Kind::kList)
    fail(ErrorKind::kUnsupported,
         "`serve` must be a list of entries with engine and engine_args, for a text model; this one is {}",
         config::name(entries->kind));
}

// A hostfile or several nodes: the answers are the same from one.
void tell_of_other_hosts(const config::Composed& composed) {
  const std::string hostfile = text_at(composed, "experiment.runner.hostfile");
  if (!hostfile.empty()) info("experiment.runner.hostfile is {}: this machine alone serves", hostfile);
  for (const char* deploy : {"experiment.runner.deploy", "experiment.deploy"})
    if (text_at(composed, std::string(deploy) + ".prefill_decode_disaggregation") == "True")
      info("{}.prefill_decode_disaggregation: one process does both", deploy);
}

// Into the entry itself: what they replace need not resolve.
void put_overrides(const config::Composed& composed, const NodePtr& entry) {
  const NodePtr arguments = entry->kind == config::Kind::kMap && entry->find({"engine_args"})
                                ? entry->find({"engine_args"})
                                : nullptr;
  if (!arguments || arguments->kind != config::Kind::kMap) return;
  for (const auto& [path, key] : {std::pair{"experiment.deploy.port", "port"},
                                  {"experiment.runner.deploy.port", "port"},
                                  {"experiment.runner.cli_args.port", "port"},
                                  {"experiment.runner.cli_args.model_path", "model"}})
    if (const NodePtr value = composed.value(path)) arguments->set({key}, value->copy());
}

}  // namespace

void read_arguments(const Keys& keys, const NodePtr& arguments, ServiceConfig& config) {
  if (!arguments || arguments->kind == config::Kind::kNull) return;
  if (arguments->kind != config::Kind::kMap)
    fail(ErrorKind::kConfig, "{}engine_args must be a mapping", place(arguments));
  for (const config::Entry& entry : arguments->entries) read_key(keys, entry.key.text, entry.value, config);
}

ServiceConfig read_service_config(const std::string& yaml_path, const std::string& overrides,
                                  ServiceConfig config) {
  NodePtr file;  // children know their parents by pointer: the root stays
  if (!yaml_path.empty()) {
    file = serve_entries(yaml_path);
    if (file->kind == config::Kind::kList)
      read_entries(file, yaml_path, config);
    else
      read_arguments(service_keys(), file, config);
  }
  if (!overrides.empty())
    read_arguments(service_keys(), config::parse_yaml(overrides, "--engine-args"), config);
  return config;
}

ServiceConfig read_serve_task(const config::Composed& composed) {
  config::check_experiment(composed);
  const NodePtr entries = composed.value("serve");
  refuse_python_servers(composed, entries);
  tell_of_other_hosts(composed);
  if (!entries->items.empty()) put_overrides(composed, config::resolve(entries->items[0]));
  ServiceConfig config;
  read_entries(entries, "`serve`", config);
  NodePtr arguments = composed.value("experiment.runner.cli_args.engine_args");
  if (arguments && arguments->kind == config::Kind::kString)
    arguments = config::parse_yaml(arguments->text, "experiment.runner.cli_args.engine_args");
  read_arguments(service_keys(), arguments, config);
  if (config.model.empty()) fail(ErrorKind::kConfig, "which model? engine_args.model names none");
  return config;
}

}  // namespace flagscale::serve
