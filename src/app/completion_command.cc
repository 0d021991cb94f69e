#include <CLI/CLI.hpp>
#include <cstdio>

#include "app/command.h"
#include "app/completion.h"

namespace flagscale {
namespace {

void setup(CLI::App& app) {
  app.add_option("shell", "bash, zsh or fish")->required();
  app.footer(
      "Examples:\n"
      "  source <(flagscale completion bash)\n"
      "  flagscale completion zsh > ~/.zfunc/_flagscale\n"
      "  flagscale completion fish > ~/.config/fish/completions/flagscale.fish");
  app.callback([&app] {
    std::fputs(completion_script(*app.get_parent(), app["shell"]->as<std::string>()).c_str(), stdout);
  });
}

const Registration<Command> kCompletion{"completion", {"print a shell's completion script", &setup}};

}  // namespace
}  // namespace flagscale
