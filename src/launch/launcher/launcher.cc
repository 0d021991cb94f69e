#include "launch/launcher/launcher.h"

#include <fmt/ranges.h>

#include "base/error.h"
#include "base/nearest.h"

namespace flagscale::launch {

std::unique_ptr<Launcher> make_launcher(const std::string& name, const LauncherOptions& options) {
  const auto& registry = Registry<LauncherKind>::instance();
  if (const LauncherKind* kind = registry.find(name)) return kind->make(options);
  const std::string near = nearest(name, registry.names());
  fail(ErrorKind::kConfig, "experiment.runner.type is '{}', expected one of {}{}", name,
       fmt::join(registry.names(), ", "), near.empty() ? "" : "; did you mean '" + near + "'?");
}

}  // namespace flagscale::launch
