#pragma once
// FlagScale's argument mapping: a serve file's engine_args are written in vLLM's words, and other engines
// have words and values of their own. What is not in the table passes unchanged.

#include <string>

#include "config/node.h"

namespace flagscale::launch {

enum class Dialect { kLlamaCpp, kSglang };

// A resolved mapping of engine_args, translated. Keys may be written with dashes. Throws Error{kConfig}
// naming file, line and key for a value that the engine has no word for.
config::NodePtr translated(const config::Node& arguments, Dialect dialect);

}  // namespace flagscale::launch
