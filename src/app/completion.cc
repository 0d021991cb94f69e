#include "app/completion.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace flagscale {

namespace {

struct Word {
  std::string text, summary;
};

// A command, by the words that lead to it, and what may follow.
struct Node {
  std::string path;  // "flagscale config show"
  std::vector<Word> commands, options;
  std::vector<Word> choices;        // "--action", "run dryrun test"
  std::vector<std::string> values;  // "--config-path": what follows is left to the shell, which knows files
  std::string
      positional;  // words that may follow, as the shell writes them: fixed, or a command that lists them
};

constexpr const char* kWord =
    "@WORD@";  // stands for --word and what is typed, which every shell says differently

std::string with_word(std::string text, const std::string& word) {
  for (size_t at; (at = text.find(kWord)) != std::string::npos;) text.replace(at, std::strlen(kWord), word);
  return text;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// CLI11 shows the members of a set in the option's type: "TEXT:{run,dryrun,test}".
std::string choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{'), close = type.rfind('}');
  if (open == std::string::npos || close == std::string::npos) return "";
  std::string words = type.substr(open + 1, close - open - 1);
  std::replace(words.begin(), words.end(), ',', ' ');
  return words;
}

// What stands in a positional's place; "" leaves it to the shell, which knows files.
std::string positional_words(const CLI::Option& option) {
  if (const std::string choices = choices_of(option); !choices.empty()) return choices;
  const std::string& name = option.get_single_name();
  if (name == "model" || name == "model-or-yaml") return "$(flagscale completion --list examples)";
  if (name == "key") return std::string("$(flagscale completion --list keys ") + kWord + ")";
  if (name == "overrides" || name == "yaml_and_overrides")
    return std::string("$(flagscale completion --list overrides ") + kWord + ")";
  return "";
}

void add_option(const CLI::Option& option, Node& node) {
  if (option.get_positional()) {
    const std::string words = positional_words(option);
    const bool known =
        node.positional.find("--list keys") != std::string::npos;  // they have the overrides' paths
    if (!known) node.positional += (node.positional.empty() ? "" : " ") + words;
  }
  const std::string choices = choices_of(option);
  for (const std::string& name : option.get_lnames()) {
    node.options.push_back({"--" + name, first_line(option.get_description())});
    if (!choices.empty())
      node.choices.push_back({"--" + name, choices});
    else if (option.get_items_expected_max() > 0)
      node.values.push_back("--" + name);
  }
}

void collect(const CLI::App& app, const std::string& path, std::vector<Node>& nodes) {
  Node node{path, {}, {}, {}, {}, {}};
  for (const CLI::Option* option : app.get_options()) add_option(*option, node);
  const auto children = app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* child : children)
    node.commands.push_back({child->get_name(), first_line(child->get_description())});
  nodes.push_back(std::move(node));
  for (const CLI::App* child : children) collect(*child, path + " " + child->get_name(), nodes);
}

// In single quotes for every shell.
std::string single_quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) c == '\'' ? result += "'\\''" : result += c;
  return result + "'";
}

std::string nested_paths(const std::vector<Node>& nodes, const char* separator) {
  std::string result;
  for (const Node& node : nodes)
    if (node.path != "flagscale") result += (result.empty() ? "" : separator) + single_quoted(node.path);
  return result;
}

std::string names(const std::vector<Word>& words) {
  std::string result;
  for (const Word& word : words) result += (result.empty() ? "" : " ") + word.text;
  return result;
}

// "'flagscale run --config-path'|'…'": words after which the shell offers files.
std::string before_values(const std::vector<Node>& nodes) {
  std::string result;
  for (const Node& node : nodes)
    for (const std::string& option : node.values)
      result += (result.empty() ? "" : "|") + single_quoted(node.path + " " + option);
  return result;
}

// Both shells below walk the words typed so far: a word that names a nested command extends the path. Where
// nothing is offered bash completes file names.
std::string bash(const std::vector<Node>& nodes) {
  std::string script = fmt::format(
      "_flagscale() {{\n"
      "  local word words= path=flagscale current=\"${{COMP_WORDS[COMP_CWORD]}}\"\n"
      "  for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n"
      "    case \"$path $word\" in {}) path=\"$path $word\" ;; esac\n"
      "  done\n"
      "  case \"$path ${{COMP_WORDS[COMP_CWORD-1]}}\" in\n",
      nested_paths(nodes, "|"));
  for (const Node& node : nodes)
    for (const Word& word : node.choices)
      script += fmt::format("    {}) words={} ;;\n", single_quoted(node.path + " " + word.text),
                            single_quoted(word.summary));
  script += fmt::format("    {}) ;;\n", before_values(nodes));
  script += "    *) case \"$path\" in\n";
  for (const Node& node : nodes)
    script += fmt::format(
        "      {}) [[ $current == -* ]] && words={} || words=\"{}\" ;;\n", single_quoted(node.path),
        single_quoted(names(node.options)),
        node.commands.empty() ? with_word(node.positional, "--word \"$current\"") : names(node.commands));
  return script +
         "    esac ;;\n"
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "  if [[ ${COMPREPLY[0]} == *. ]]; then compopt -o nospace 2>/dev/null || true; fi\n"
         "}\n"
         "complete -o default -F _flagscale flagscale\n";
}

// What the options and commands are for stands beside them; paths that go on after their last dot get no
// space.
std::string zsh(const std::vector<Node>& nodes) {
  std::string script = fmt::format(
      "#compdef flagscale\n"
      "_flagscale() {{\n"
      "  local word where=flagscale\n"
      "  local -a found more\n"
      "  for word in \"${{(@)words[2,CURRENT-1]}}\"; do\n"
      "    case \"$where $word\" in {}) where=\"$where $word\" ;; esac\n"
      "  done\n"
      "  case \"$where ${{words[CURRENT-1]}}\" in\n",
      nested_paths(nodes, "|"));
  for (const Node& node : nodes)
    for (const Word& word : node.choices)
      script +=
          fmt::format("    {}) more=({}) ;;\n", single_quoted(node.path + " " + word.text), word.summary);
  script += fmt::format("    {}) ;;\n", before_values(nodes));
  script += "    *) case \"$where\" in\n";
  for (const Node& node : nodes) {
    script += fmt::format("      {}) found=(", single_quoted(node.path));
    for (const auto* list : {&node.commands, &node.options})
      for (const Word& word : *list) script += "\n        " + single_quoted(word.text + ":" + word.summary);
    script +=
        fmt::format(")\n        more=({}) ;;\n", with_word(node.positional, "--word \"${words[CURRENT]}\""));
  }
  return script +
         "    esac ;;\n"
         "  esac\n"
         "  local -i none=1\n"
         "  local -a open=(${(M)more:#*.})\n"
         "  more=(${more:#*.})\n"
         "  compadd -S '' -a open && none=0\n"
         "  compadd -a more && none=0\n"
         "  _describe 'flagscale' found && none=0\n"
         "  (( none == 0 )) || _files\n"
         "}\n"
         "compdef _flagscale flagscale\n";
}

// fish writes $(command) as (command).
std::string fish_words(std::string words) {
  for (size_t at; (at = words.find("$(")) != std::string::npos;) words.erase(at, 1);
  return words;
}

std::string fish(const std::vector<Node>& nodes) {
  std::string script = fmt::format(
      "function __flagscale_path\n"
      "  set -l path flagscale\n"
      "  for word in (commandline -opc)[2..-1]\n"
      "    switch \"$path $word\"\n"
      "      case {}\n"
      "        set path \"$path $word\"\n"
      "    end\n"
      "  end\n"
      "  echo $path\n"
      "end\n"
      "complete -c flagscale -e\n",
      nested_paths(nodes, " "));
  for (const Node& node : nodes) {
    const std::string condition =
        single_quoted(fmt::format("test \"$(__flagscale_path)\" = \"{}\"", node.path));
    for (const Word& word : node.commands)
      script += fmt::format("complete -c flagscale -n {} -a {} -d {}\n", condition, word.text,
                            single_quoted(word.summary));
    for (const Word& word : node.options) {
      const bool value = std::find(node.values.begin(), node.values.end(), word.text) != node.values.end();
      script += fmt::format("complete -c flagscale -n {} -l {}{} -d {}\n", condition, word.text.substr(2),
                            value ? " -r -F" : "", single_quoted(word.summary));
    }
    for (const Word& word : node.choices)
      script += fmt::format("complete -c flagscale -n {} -l {} -x -a {}\n", condition, word.text.substr(2),
                            single_quoted(word.summary));
    if (!node.positional.empty())
      script +=
          fmt::format("complete -c flagscale -n {} -a {}\n", condition,
                      single_quoted(fish_words(with_word(node.positional, "--word=(commandline -ct)"))));
  }
  return script;
}

}  // namespace

std::string completion_script(const CLI::App& root, const std::string& shell) {
  std::vector<Node> nodes;
  collect(root, "flagscale", nodes);
  if (shell == "bash") return bash(nodes);
  if (shell == "zsh") return zsh(nodes);
  if (shell == "fish") return fish(nodes);
  fail(ErrorKind::kInvalidArgument, "no completion for \"{}\": bash, zsh and fish have one", shell);
}

}  // namespace flagscale
