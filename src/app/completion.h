#pragma once
// Shell completion, generated from the tree of commands, so that it never falls behind.

#include <string>

namespace CLI {
class App;
}

namespace flagscale {

// shell: "bash", "zsh" or "fish"; anything else is Error{kInvalidArgument}. The script goes to the shell's
// own place, or through `source <(flagscale completion bash)`.
std::string completion_script(const CLI::App& root, const std::string& shell);

}  // namespace flagscale
