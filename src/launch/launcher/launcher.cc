#include "launch/launcher/launcher.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/nearest.h"
#include "launch/launcher/batch_system.h"

namespace flagscale::launch {

void check_runner_type(const std::string& type, const std::string& place) {
  std::vector<std::string> names = Registry<LauncherKind>::instance().names();
  for (const std::string& name : Registry<BatchKind>::instance().names())
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  names.push_back("cloud");
  if (std::find(names.begin(), names.end(), type) != names.end()) return;
  const std::string near = nearest(type, names);
  fail(ErrorKind::kConfig, "{} is '{}', expected one of {}{}", place, type, fmt::join(names, ", "),
       near.empty() ? "" : "; did you mean '" + near + "'?");
}

std::unique_ptr<Launcher> make_launcher(const std::string& name, const LauncherOptions& options) {
  const auto& registry = Registry<LauncherKind>::instance();
  if (!options.container.empty() && name != "ssh")
    fail(ErrorKind::kUnsupported,
         "experiment.runner.docker is {}, and hosts are entered so by experiment.runner.type=ssh alone, not "
         "{}",
         options.container, name);
  if (const LauncherKind* kind = registry.find(name)) return kind->make(options);
  check_runner_type(name);
  fail(ErrorKind::kUnsupported, "experiment.runner.type is {}, by which no node is reached from here", name);
}

}  // namespace flagscale::launch
