#pragma once
// Templates that mark what the assistant wrote, {% generation %}…{% endgeneration %}, made to show it in
// their text.

#include <string>
#include <string_view>

namespace flagscale::data {

// Noncharacters of Unicode, which no text has: around what is marked.
inline constexpr std::string_view kMarkBegin = "\xef\xb7\x90", kMarkEnd = "\xef\xb7\x91";

// The template that writes them as well. found: whether it has any {% generation %}; else it stays as it is.
std::string with_marks(const std::string& source, bool& found);

}  // namespace flagscale::data
