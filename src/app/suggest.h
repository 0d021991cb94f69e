#pragma once
// What a mistyped command line meant.

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace flagscale {

struct Suggestion {
  std::string command;  // as far as the words name one: "flagscale config"
  std::string message;  // "" where the parser's own message says it best
};

// Follows the words down the tree of commands to the first unknown command or option.
Suggestion suggest(const CLI::App& app, const std::vector<std::string>& words);

}  // namespace flagscale
