#include "app/completion.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

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
};

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

void collect(const CLI::App& app, const std::string& path, std::vector<Node>& nodes) {
  Node node{path, {}, {}};
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames())
      node.options.push_back({"--" + name, first_line(option->get_description())});
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

// Both shells below walk the words typed so far: a word that names a nested command extends the path.
std::string bash(const std::vector<Node>& nodes) {
  std::string script = fmt::format(
      "_flagscale() {{\n"
      "  local word words path=flagscale\n"
      "  for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n"
      "    case \"$path $word\" in {}) path=\"$path $word\" ;; esac\n"
      "  done\n"
      "  case \"$path\" in\n",
      nested_paths(nodes, "|"));
  for (const Node& node : nodes) {
    std::string words;
    for (const auto* list : {&node.commands, &node.options})
      for (const Word& word : *list) words += (words.empty() ? "" : " ") + word.text;
    script += fmt::format("    {}) words={} ;;\n", single_quoted(node.path), single_quoted(words));
  }
  return script +
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
         "}\n"
         "complete -o default -F _flagscale flagscale\n";
}

std::string zsh(const std::vector<Node>& nodes) {
  std::string script = fmt::format(
      "#compdef flagscale\n"
      "_flagscale() {{\n"
      "  local word where=flagscale\n"
      "  local -a found\n"
      "  for word in \"${{(@)words[2,CURRENT-1]}}\"; do\n"
      "    case \"$where $word\" in {}) where=\"$where $word\" ;; esac\n"
      "  done\n"
      "  case \"$where\" in\n",
      nested_paths(nodes, "|"));
  for (const Node& node : nodes) {
    script += fmt::format("    {}) found=(", single_quoted(node.path));
    for (const auto* list : {&node.commands, &node.options})
      for (const Word& word : *list) script += "\n      " + single_quoted(word.text + ":" + word.summary);
    script += ") ;;\n";
  }
  return script +
         "  esac\n"
         "  _describe 'flagscale' found || _files\n"
         "}\n"
         "compdef _flagscale flagscale\n";
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
    for (const Word& word : node.options)
      script += fmt::format("complete -c flagscale -n {} -l {} -d {}\n", condition, word.text.substr(2),
                            single_quoted(word.summary));
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
