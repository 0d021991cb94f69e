#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "app/command.h"
#include "app/completion.h"
#include "app/model_argument.h"
#include "base/error.h"
#include "config/schema.h"
#include "train/keys/train_keys.h"

namespace flagscale {
namespace {

void print_lines(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) fmt::print("{}\n", line);
}

std::vector<std::string> key_names() {
  std::vector<std::string> names;
  for (const config::KeyInfo& key : train::train_schema().keys()) names.push_back(key.name);
  return names;
}

void setup(CLI::App& app) {
  auto* shell =
      app.add_option("shell", "whose script to print")->check(CLI::IsMember({"bash", "zsh", "fish"}));
  auto* list = app.add_option("--list", "print what the scripts ask for instead")
                   ->check(CLI::IsMember({"examples", "keys"}));
  shell->excludes(list);
  app.footer(
      "Examples:\n"
      "  source <(flagscale completion bash)\n"
      "  flagscale completion zsh > ~/.zfunc/_flagscale\n"
      "  flagscale completion fish > ~/.config/fish/completions/flagscale.fish");
  app.callback([&app, shell, list] {
    if (!list->empty()) return print_lines(list->as<std::string>() == "keys" ? key_names() : example_names());
    if (shell->empty()) fail(ErrorKind::kInvalidArgument, "name the shell: bash, zsh or fish");
    std::fputs(completion_script(*app.get_parent(), shell->as<std::string>()).c_str(), stdout);
  });
}

const Registration<Command> kCompletion{"completion", {"print a shell's completion script", &setup}};

}  // namespace
}  // namespace flagscale
