#include "launch/run/run_options.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/nearest.h"
#include "config/resolve.h"
#include "config/show.h"

namespace flagscale::launch {

namespace {

using config::Kind;
using config::NodePtr;

[[noreturn]] void refuse_supervision(const NodePtr& node, const std::string& path, const std::string& what) {
  const std::string place = describe(node->origin);
  fail(ErrorKind::kConfig, "{}{}{} {}", place, place.empty() ? "" : ": ", path, what);
}

void read_seconds(const config::Composed& composed, const std::string& path, double& into) {
  const NodePtr value = composed.value(path);
  if (!value) return;
  const bool number = value->kind == Kind::kInt || value->kind == Kind::kFloat;
  if (!number || value->floating < 0)
    refuse_supervision(value, path, "is '" + config::python_str(*value) + "': seconds, or 0 for no limit");
  into = value->floating;
}

template <class Names>
void check_supervision_keys(const config::Composed& composed, const std::string& path, const Names& known) {
  const NodePtr map = composed.value(path);
  if (!map) return;
  if (map->kind != Kind::kMap) refuse_supervision(map, path, "is no mapping");
  const std::vector<std::string> names(std::begin(known), std::end(known));
  for (const config::Entry& entry : map->entries) {
    if (std::find(names.begin(), names.end(), entry.key.text) != names.end()) continue;
    const std::string near = nearest(entry.key.text, names);
    refuse_supervision(entry.value, path + "." + entry.key.text,
                       "is no key" + (near.empty() ? std::string() : "; did you mean '" + near + "'?"));
  }
}

std::string provenance_of(const config::Composed& composed) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const config::Leaf& leaf : config::leaves(composed.root()))
    json[leaf.path] = leaf.value ? describe(leaf.value->origin) : leaf.exception;
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

RunOptions read_run_options(const config::Composed& composed, const std::vector<std::string>& command_line) {
  RunOptions options;
  const std::string own = "experiment.supervision", limits = own + ".limits";
  const std::map<std::string, double*> phases{
      {"start", &options.limits.start},           {"load", &options.limits.load},
      {"first_step", &options.limits.first_step}, {"step", &options.limits.step},
      {"evaluation", &options.limits.evaluation}, {"save", &options.limits.save},
      {"output", &options.limits.output}};
  std::vector<std::string> names;
  for (const auto& [name, limit] : phases) names.push_back(name);
  check_supervision_keys(composed, own, std::initializer_list<const char*>{"on_hang", "grace", "limits"});
  check_supervision_keys(composed, limits, names);
  read_seconds(composed, "experiment.runner.hang_detection_timeout", options.limits.output);
  for (const auto& [name, limit] : phases) read_seconds(composed, limits + "." + name, *limit);
  read_seconds(composed, own + ".grace", options.grace);
  read_seconds(composed, "experiment.runner.lost_timeout", options.lost_after);
  if (const NodePtr value = composed.value(own + ".on_hang")) {
    const std::string text = config::python_str(*value);
    if (text != "report" && text != "restart")
      refuse_supervision(value, own + ".on_hang", "is '" + text + "': report or restart");
    options.on_hang = text == "restart" ? OnHang::kRestart : OnHang::kReport;
  }
  options.origin = {config::to_yaml(composed.root()), provenance_of(composed), command_line};
  return options;
}

}  // namespace flagscale::launch
