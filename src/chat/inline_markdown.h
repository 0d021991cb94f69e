#pragma once
// Markdown within a line: emphasis, code, links, escapes.

#include <cstddef>
#include <string>
#include <string_view>

#include "chat/style.h"

namespace flagscale::chat {

// Appends to `out` what of `text` is certain, and returns how many bytes that were. complete: the line ends
// here, so all is certain. previous: the character before, "\n" at a line's start; advanced. A mark without
// its partner in the line stands for itself.
size_t render_inline(std::string_view text, bool complete, const Style& style, char& previous,
                     std::string& out);

}  // namespace flagscale::chat
