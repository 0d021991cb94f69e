#include "launch/adapter/serve_entry.h"

#include <fmt/format.h>

#include <bit>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "config/read_value.h"
#include "config/yaml.h"

namespace flagscale::launch {
namespace {

using config::Entry;
using config::Kind;
using config::Node;
using config::NodePtr;

bool is_map(const NodePtr& node) { return node && node->kind == Kind::kMap; }

bool has_engine(const NodePtr& item) {
  const NodePtr id = is_map(item) ? item->find({"serve_id"}) : nullptr;
  return id && id->kind != Kind::kNull && is_map(item->find({"engine_args"}));
}

// {"engine_args": …} of a composed service are Python classes: nothing here is for them.
NodePtr first_engine(const NodePtr& serve) {
  if (serve->kind != Kind::kList) return nullptr;
  for (const NodePtr& item : serve->items)
    if (has_engine(item)) return item;
  return nullptr;
}

NodePtr arguments_given(const Experiment& e) {
  const std::string path = "experiment.runner.cli_args.engine_args";
  const NodePtr given = e.value(path);
  if (!given) return Node::map();
  NodePtr arguments = given;
  if (given->kind == Kind::kString) {
    if (!nlohmann::json::accept(given->text))
      fail(ErrorKind::kConfig, "{} is no JSON object: {}", e.place(path), given->text);
    arguments = config::parse_yaml(given->text, path);
  }
  if (arguments->kind != Kind::kMap)
    fail(ErrorKind::kConfig, "{} must be a JSON object or a mapping, got {}", e.place(path),
         name(arguments->kind));
  return arguments;
}

NodePtr port_given(const Experiment& e) {
  for (const char* path : {"experiment.runner.cli_args.port", "experiment.runner.deploy.port"})
    if (const int64_t port = e.number(path, 0)) {
      if (port > 65535)
        fail(ErrorKind::kConfig, "{} is {}, expected a port up to 65535", e.place(path), port);
      return Node::integer(port);
    }
  return nullptr;
}

int port_of(const NodePtr& node) {
  if (node->is_interpolation()) return 0;  // not known here
  int64_t port = 0;
  try {
    config::read_value(*node, port);
  } catch (const Error& error) {
    fail(ErrorKind::kConfig, "{}: engine_args.port {}", describe(node->origin), error.what());
  }
  if (port < 1 || port > 65535)
    fail(ErrorKind::kConfig, "{}: engine_args.port is {}, expected a port from 1 to 65535",
         describe(node->origin), port);
  return static_cast<int>(port);
}

// FlagScale does so whatever the entry says; here a size that was chosen stays.
void spread(const Placement& placement, Node& arguments) {
  const auto set = [&](const std::string& key, int room) {
    const NodePtr given = arguments.find({key});
    const auto size = static_cast<int64_t>(std::bit_floor(static_cast<unsigned>(room)));
    if (given && given->kind != Kind::kNull && !(given->kind == Kind::kInt && given->number == 1)) return;
    if (size > 1) info("{} is {}: there is room for {} in the cloud", key, size, room);
    if (size > 1 || given) arguments.set({key}, Node::integer(size));
  };
  set("tensor_parallel_size", placement.places[0].processes);
  set("pipeline_parallel_size", placement.nodes);
}

}  // namespace

NodePtr serve_section(const Experiment& e, const Placement& placement) {
  const NodePtr serve = e.value("serve");
  if (!serve || (serve->entries.empty() && serve->items.empty()))
    fail(ErrorKind::kConfig, "the configuration has no `serve`: nothing to serve");
  if (!serve->is_container())
    fail(ErrorKind::kConfig, "{} must be a list of entries or a mapping, got {}", e.place("serve"),
         name(serve->kind));
  const NodePtr more = arguments_given(e);
  const std::string model = e.text("experiment.runner.cli_args.model_path");
  for (const NodePtr& item : serve->items) {
    if (!has_engine(item)) continue;
    const NodePtr arguments = item->find({"engine_args"});
    if (!model.empty()) arguments->set({"model"}, Node::string(model));
    if (placement.cloud) spread(placement, *arguments);
    for (const Entry& entry : more->entries) arguments->set(entry.key, entry.value->copy());
  }
  const NodePtr item = first_engine(serve), port = port_given(e);
  if (item && port && e.text("experiment.task.entrypoint").empty())
    item->find({"engine_args"})->set({"port"}, port);
  return serve;
}

ServeEntry served_entry(const NodePtr& serve) {
  const NodePtr item = first_engine(serve);
  if (!item)
    fail(ErrorKind::kConfig,
         "{}: no entry of `serve` has serve_id and engine_args: nothing that an engine serves",
         describe(serve->origin));
  if (serve->items.size() > 1)
    warn("`serve` has {} entries: one engine serves the first", serve->items.size());
  ServeEntry entry;
  if (const NodePtr engine = item->find({"engine"}); engine && engine->kind != Kind::kNull)
    entry.engine = python_str(*engine);
  entry.arguments = item->find({"engine_args"})->copy();
  const NodePtr specific = item->find({"engine_args_specific"});
  entry.specific = is_map(specific) ? specific->copy() : Node::map();
  const NodePtr model = entry.arguments->find({"model"});
  if (!model || model->kind != Kind::kString || model->text.empty())
    fail(ErrorKind::kConfig, "{}: engine_args.model is missing: it names what is served",
         describe(item->origin));
  if (const NodePtr port = entry.arguments->find({"port"}); port && port->kind != Kind::kNull)
    entry.port = port_of(port);
  return entry;
}

ServeEntry engine_entry(const Experiment& e, const Placement& placement) {
  const std::string script = e.text("experiment.task.entrypoint");
  if (!script.empty())
    fail(ErrorKind::kUnsupported, "{} is {}, a server of its own: --engine yaml starts it",
         e.place("experiment.task.entrypoint"), script);
  const std::string split = "experiment.runner.deploy.prefill_decode_disaggregation";
  if (e.flag(split))
    fail(ErrorKind::kUnsupported,
         "{} is true: FlagScale's router does that, which --engine yaml starts; false serves by one",
         e.place(split));
  return served_entry(serve_section(e, placement));
}

NodePtr ServeEntry::of(const std::string& name) const {
  const NodePtr node = specific->find({name});
  return is_map(node) ? node : Node::map();
}

}  // namespace flagscale::launch
