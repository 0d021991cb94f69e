#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "app/command.h"
#include "app/completion.h"
#include "app/model_argument.h"
#include "base/error.h"
#include "config/schema.h"
#include "train/keys/train_keys.h"

namespace flagscale::completion_command {
namespace {

void print_lines(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) fmt::print("{}\n", line);
}

std::vector<std::string> key_names() {
  std::vector<std::string> names;
  for (const config::KeyInfo& key : train::train_schema().keys()) names.push_back(key.name);
  return names;
}

// The paths that `word` may become: one more name at a time. Any key may stand below any part of a section,
// so all of them are offered there.
std::vector<std::string> paths(const std::string& word) {
  const std::string parent = word.substr(0, word.rfind('.') + 1);
  if (parent.empty()) return {"train.", "experiment."};
  if (parent == "train.") return {"train.system.", "train.model.", "train.data."};
  if (parent == "experiment.") return {"experiment.exp_name", "experiment.exp_dir"};
  std::vector<std::string> names;
  for (const std::string& section : train::train_sections())
    if (parent.starts_with(section + "."))
      for (const std::string& name : key_names()) names.push_back(parent + name);
  return names;
}

std::vector<std::string> listed(const std::string& what, const std::string& word) {
  if (what == "examples") return example_names();
  if (what == "overrides") {
    const size_t sign = std::min(word.find_first_not_of("+~"), word.size());
    if (sign == word.size() || word.find('=') != std::string::npos) return {};
    std::vector<std::string> words = paths(word.substr(sign));
    for (std::string& path : words) path.insert(0, word, 0, sign);
    return words;
  }
  std::vector<std::string> words = paths(word);
  if (word.find('.') == std::string::npos) {
    const std::vector<std::string> names = key_names();
    words.insert(words.end(), names.begin(), names.end());
  }
  return words;
}

void setup(CLI::App& app) {
  auto* shell =
      app.add_option("shell", "whose script to print")->check(CLI::IsMember({"bash", "zsh", "fish"}));
  auto* list = app.add_option("--list", "print what the scripts ask for instead")
                   ->check(CLI::IsMember({"examples", "keys", "overrides"}));
  auto* word = app.add_option("--word", "what is typed so far, which --list completes")->needs(list);
  shell->excludes(list);
  app.footer(
      "Examples:\n"
      "  source <(flagscale completion bash)\n"
      "  flagscale completion zsh > ~/.zfunc/_flagscale\n"
      "  flagscale completion fish > ~/.config/fish/completions/flagscale.fish");
  app.callback([&app, shell, list, word] {
    if (!list->empty())
      return print_lines(listed(list->as<std::string>(), word->empty() ? "" : word->as<std::string>()));
    if (shell->empty()) fail(ErrorKind::kInvalidArgument, "name the shell: bash, zsh or fish");
    std::fputs(completion_script(*app.get_parent(), shell->as<std::string>()).c_str(), stdout);
  });
}

const Registration<Command> kCompletion{"completion", {"print a shell's completion script", &setup}};

}  // namespace
}  // namespace flagscale::completion_command
