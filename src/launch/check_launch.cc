#include "launch/check_launch.h"

#include "base/error.h"
#include "config/resolve.h"
#include "launch/adapter.h"
#include "launch/launcher/launcher.h"
#include "launch/launcher/options.h"
#include "launch/run/run_options.h"
#include "launch/runner_keys.h"

namespace flagscale::launch {

namespace {

// Unresolved: a value that only a run's machine knows, or that is still to be set, is none of a check's.
config::NodePtr raw_map(const Experiment& e, const std::string& path) {
  const config::NodePtr node = config::select_raw(e.root(), path);
  if (!node || node->kind == config::Kind::kNull || node->is_interpolation() || node->is_missing())
    return config::Node::map();
  if (node->kind != config::Kind::kMap)
    fail(ErrorKind::kConfig, "{} must be a mapping, got {}", e.place(path), config::name(node->kind));
  return node;
}

}  // namespace

void check_launch(const Experiment& e, const config::Composed& composed) {
  const config::NodePtr runner = raw_map(e, "experiment.runner");
  check_runner_keys(*runner, e);
  check_runner_type(e.text("experiment.runner.type", "ssh"), e.place("experiment.runner.type"));
  read_launcher_options(*runner);
  read_run_options(composed, {});
  for (const char* path : {"experiment.cmds", "experiment.envs"}) raw_map(e, path);
  if (const std::string engine = engine_of(e, ""); engine != "native") adapter_name(e, engine);
}

}  // namespace flagscale::launch
