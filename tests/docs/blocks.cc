#include "tests/docs/blocks.h"

#include <cctype>
#include <sstream>

namespace flagscale::docs {

namespace {

const std::string kEllipsis = "…";

// Digits to '0' and white space to single blanks, so that 3.21 and 12.4 are equal.
std::string normal(const std::string& line) {
  std::string result;
  for (const char c : line) {
    const auto byte = static_cast<unsigned char>(c);
    const bool digit = std::isdigit(byte) != 0, space = std::isspace(byte) != 0;
    const char last = result.empty() ? ' ' : result.back();
    if (digit && last == '0') continue;
    if (space && last == ' ') continue;
    if (digit && last == '.' && result.size() > 1 && result[result.size() - 2] == '0') {
      result.pop_back();  // 3.21: one number
      continue;
    }
    result += digit ? '0' : space ? ' ' : c;
  }
  while (!result.empty() && result.back() == ' ') result.pop_back();
  return result;
}

// The pieces between ellipses, in order, the first at the start and the last at the end of the line.
bool matches(const std::string& shown, const std::string& printed) {
  size_t at = 0, from = 0;
  for (;;) {
    const size_t next = shown.find(kEllipsis, from);
    const std::string piece = shown.substr(from, next == std::string::npos ? next : next - from);
    if (next == std::string::npos) {
      if (from == 0) return printed == piece;
      return printed.size() >= at + piece.size() && printed.ends_with(piece);
    }
    const size_t found = printed.find(piece, at);
    if (found == std::string::npos || (from == 0 && found != 0)) return false;
    at = found + piece.size();
    from = next + kEllipsis.size();
  }
}

}  // namespace

std::vector<Block> blocks(const std::string& markdown) {
  std::vector<Block> result;
  std::istringstream in(markdown);
  std::string language, text;
  bool inside = false, follows_command = false;
  int number = 0, start = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (!line.starts_with("```")) {
      if (inside)
        text += line + "\n";
      else if (!line.empty())
        follows_command = false;
      continue;
    }
    inside = !inside;
    if (inside) {
      language = line.substr(3);
      text.clear();
      start = number;
    } else if (language == "sh") {
      result.push_back({start, text, ""});
      follows_command = true;
    } else {
      if (language == "text" && follows_command) result.back().output = text;
      follows_command = false;
    }
  }
  return result;
}

std::string first_missing(const std::string& shown, const std::string& printed) {
  std::istringstream expected(shown), actual(printed);
  std::string have;
  for (std::string want; std::getline(expected, want);) {
    const std::string wanted = normal(want);
    if (wanted.empty() || wanted == kEllipsis) continue;
    bool found = false;
    while (!found && std::getline(actual, have)) found = matches(wanted, normal(have));
    if (!found) return want;
  }
  return "";
}

}  // namespace flagscale::docs
