// Nodes on this machine.

#include "base/registry.h"
#include "launch/launcher/linked_launcher.h"

namespace flagscale::launch {

namespace {

class LocalLauncher : public LinkedLauncher {
 public:
  using LinkedLauncher::LinkedLauncher;

 protected:
  Command way(const NodeTask&, std::vector<std::string> agent) override { return {std::move(agent), {}, {}}; }

  std::string explain(const NodeTask& task, int, const std::vector<std::string>& err) override {
    return err.empty() ? "" : name_of(task) + ": " + err.back();
  }
};

const Registration<LauncherKind> kLocal{
    "local", {"nodes on this machine", [](const LauncherOptions& options) -> std::unique_ptr<Launcher> {
                return std::make_unique<LocalLauncher>(options);
              }}};

}  // namespace
}  // namespace flagscale::launch
