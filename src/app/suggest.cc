#include "app/suggest.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "base/nearest.h"

namespace flagscale {

namespace {

// FlagScale's commands that are others here, or none.
const std::map<std::string, std::string> kFlagScales{
    {"pull", "`flagscale models fetch OWNER/NAME` fetches models"},
    {"install", "there is nothing to install beside this program, and foreign engines are used as they are"},
    {"show", "there is nothing to install beside this program, and foreign engines are used as they are"},
    {"test", "`./dev test`, in the source tree, runs the tests"}};

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
  for (const CLI::App* child : app.get_subcommands(nullptr))
    if (child->get_name() == name) return child;
  return nullptr;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* child : app.get_subcommands(nullptr)) names.push_back(child->get_name());
  return names;
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

std::string did_you_mean(const std::string& name, const std::vector<std::string>& candidates) {
  const std::string best = nearest(name, candidates);
  return best.empty() ? "" : fmt::format("; did you mean \"{}\"?", best);
}

std::string join(const std::vector<std::string>& words) {
  std::string result;
  for (const std::string& word : words) result += (result.empty() ? "" : ", ") + word;
  return result;
}

}  // namespace

Suggestion suggest(const CLI::App& root, const std::vector<std::string>& words) {
  const CLI::App* app = &root;
  Suggestion result{"flagscale", ""};
  for (const std::string& word : words) {
    const std::vector<std::string> commands = command_names(*app);
    if (word.starts_with("--") && word.size() > 2) {
      const std::string option = word.substr(0, word.find('='));
      const std::vector<std::string> options = option_names(*app);
      if (std::find(options.begin(), options.end(), option) != options.end()) continue;
      result.message =
          fmt::format("`{}` has no option {}{}", result.command, option, did_you_mean(option, options));
      return result;
    }
    if (commands.empty() || word.starts_with("-")) continue;
    const CLI::App* child = find_command(*app, word);
    if (!child) {
      if (const auto other = kFlagScales.find(word); app == &root && other != kFlagScales.end()) {
        result.message = fmt::format("`flagscale` has no command \"{}\" here: {}", word, other->second);
        return result;
      }
      const std::string hint = did_you_mean(word, commands);
      result.message = fmt::format("`{}` has no command \"{}\"{}", result.command, word,
                                   hint.empty() ? "; it has " + join(commands) : hint);
      return result;
    }
    app = child;
    result.command += " " + word;
  }
  if (!command_names(*app).empty())
    result.message = fmt::format("`{}` needs a command: {}", result.command, join(command_names(*app)));
  return result;
}

}  // namespace flagscale
