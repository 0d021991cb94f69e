#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "app/command.h"
#include "launch/agent/agent.h"

namespace flagscale::agent_command {
namespace {

void setup(CLI::App& app) {
  const auto where = std::make_shared<std::string>();
  app.add_option("orders", *where, "where orders come from: - for stdin")
      ->required()
      ->check(CLI::IsMember({"-"}));
  app.footer(
      "Examples:\n  ssh HOST flagscale agent -\n\n"
      "Started by launchers, which speak to it over stdin and stdout; it ends with them.");
  app.callback([where] { throw ExitCode{launch::run_agent(STDIN_FILENO, STDOUT_FILENO)}; });
}

const Registration<Command> kAgent{"agent", {"own a rank's processes on this host (for launchers)", &setup}};

}  // namespace
}  // namespace flagscale::agent_command
