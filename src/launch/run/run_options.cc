#include "launch/run/run_options.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "config/show.h"
#include "launch/known_keys.h"

namespace flagscale::launch {

namespace {

using config::Node;
using config::NodePtr;

std::string provenance_of(const config::Composed& composed) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const config::Leaf& leaf : config::leaves(composed.root()))
    json[leaf.path] = leaf.value ? describe(leaf.value->origin) : leaf.exception;
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void read_limits(const Node& map, const std::string& path, PhaseLimits& limits) {
  read_known_keys(map, path,
                  {{"start", into_seconds(limits.start)},
                   {"load", into_seconds(limits.load)},
                   {"first_step", into_seconds(limits.first_step)},
                   {"step", into_seconds(limits.step)},
                   {"evaluation", into_seconds(limits.evaluation)},
                   {"save", into_seconds(limits.save)},
                   {"output", into_seconds(limits.output)}});
}

ReadKey into_on_hang(OnHang& value) {
  return placed([&value](const Node& node) {
    const std::string text = config::python_str(node);
    if (text != "report" && text != "restart") fail(ErrorKind::kConfig, "is '{}': report or restart", text);
    value = text == "restart" ? OnHang::kRestart : OnHang::kReport;
  });
}

}  // namespace

RunOptions read_run_options(const config::Composed& composed, const std::vector<std::string>& command_line) {
  RunOptions options;
  // FlagScale's keys first: supervision.limits.output counts over hang_detection_timeout.
  if (const NodePtr runner = composed.value("experiment.runner"))
    read_known_keys(*runner, "experiment.runner",
                    {{"hang_detection_timeout", into_seconds(options.limits.output)},
                     {"lost_timeout", into_seconds(options.lost_after)}},
                    OtherKeys::kPassedOver);
  if (const NodePtr supervision = composed.value("experiment.supervision"))
    read_known_keys(*supervision, "experiment.supervision",
                    {{"on_hang", into_on_hang(options.on_hang)},
                     {"grace", into_seconds(options.grace)},
                     {"limits", [&](const Node& node, const std::string& path) {
                        read_limits(node, path, options.limits);
                      }}});
  options.origin = {config::to_yaml(composed.root()), provenance_of(composed), command_line};
  return options;
}

}  // namespace flagscale::launch
