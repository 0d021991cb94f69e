#pragma once
// Cuts OmegaConf's interpolation language into tokens. Five modes, as in its grammar: text, value,
// interpolation and the two kinds of quotes.

#include <string_view>
#include <vector>

#include "config/value_token.h"

namespace flagscale::config {

// in_value: starts in value mode, where oc.decode reads; else in text mode. The tokens view `text`, and end
// with kEnd. Throws Error{kConfig}.
std::vector<Token> interpolation_tokens(std::string_view text, bool in_value);

}  // namespace flagscale::config
