// Nodes on this machine, each an agent that is a child of this process.

#include <fmt/format.h>

#include "launch/launcher/piped_launcher.h"
#include "launch/launcher/this_program.h"

namespace flagscale::launch {

namespace {

class LocalLauncher : public PipedLauncher {
 public:
  explicit LocalLauncher(const LauncherOptions& options) : program_(this_program(options)) {}

 protected:
  Command command(const NodeTask&, const std::vector<std::string>& words) override {
    Command result{{program_}, {}, {}};
    result.argv.insert(result.argv.end(), words.begin(), words.end());
    return result;
  }

  std::string explain(const NodeTask& task, int exit_code, const std::vector<std::string>&) override {
    return exit_code > 128
               ? fmt::format("{}: its agent was ended by signal {}", name_of(task), exit_code - 128)
               : "";
  }

 private:
  std::string program_;
};

const Registration<LauncherKind> kLocal{
    "local", {"nodes on this machine", [](const LauncherOptions& options) -> std::unique_ptr<Launcher> {
                return std::make_unique<LocalLauncher>(options);
              }}};

}  // namespace
}  // namespace flagscale::launch
