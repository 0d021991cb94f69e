#pragma once
// How a terminal shows text: ANSI's attributes.

#include <string>

namespace flagscale::chat {

struct Style {
  bool bold = false, dim = false, italic = false, underline = false, strike = false, code = false;
  bool operator==(const Style&) const = default;
};

// The sequence that leaves every other style and takes this one.
inline std::string sequence(const Style& style) {
  std::string text = "\033[0";
  if (style.bold) text += ";1";
  if (style.dim) text += ";2";
  if (style.italic) text += ";3";
  if (style.underline) text += ";4";
  if (style.strike) text += ";9";
  if (style.code) text += ";36";
  return text += 'm';
}

}  // namespace flagscale::chat
