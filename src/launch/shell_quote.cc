#include "launch/shell_quote.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "base/error.h"

namespace flagscale::launch {

namespace {

// '%' begins a job, '~' a home folder, '^' and '{' are patterns in fish and csh: all quoted.
bool is_plain(char c) {
  constexpr std::string_view kPlain = "_-./:,+@=";
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || kPlain.find(c) != std::string_view::npos;
}

// Inside single quotes fish still reads \ and ', and csh reads !: those stand outside, behind a backslash.
bool is_escaped(char c) { return c == '\'' || c == '\\' || c == '!'; }

}  // namespace

std::string shell_quote(const std::string& word) {
  if (word.find('\0') != std::string::npos)
    fail(ErrorKind::kInvalidArgument, "a word with a zero byte is no word of a command: '{}…'", word.c_str());
  // At its beginning '=' is a program's path to zsh.
  const bool plain = !word.empty() && word[0] != '=' && std::all_of(word.begin(), word.end(), is_plain);
  if (plain) return word;
  std::string text;
  bool open = false;
  for (const char c : word) {
    if (open == is_escaped(c)) text += '\'', open = !open;
    if (is_escaped(c)) text += '\\';
    text += c;
  }
  if (open) text += '\'';
  return text.empty() ? "''" : text;
}

std::string shell_quote(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + shell_quote(word);
  return text;
}

}  // namespace flagscale::launch
