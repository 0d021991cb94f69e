#include "tests/docs/blocks.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <regex>
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

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(' '), last = text.find_last_not_of(' ');
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

// The pieces between ellipses, in order, the first at the start and the last at the end of the line.
bool matches(const std::string& shown, const std::string& printed) {
  size_t at = 0, from = 0;
  for (;;) {
    const size_t next = shown.find(kEllipsis, from);
    const std::string piece = trimmed(shown.substr(from, next == std::string::npos ? next : next - from));
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

const std::string kNotRun = "console not run: ";

// Adds what a line of a session says below its command.
void add_line(const std::string& line, Block& block) {
  if (!line.starts_with("> ")) {
    block.output += line + "\n";
    block.server |= line.find("Ctrl-C stops it") != std::string::npos;
    return;
  }
  const std::string end = "TYPED\n";
  if (block.command.ends_with(end))
    block.command.resize(block.command.size() - end.size());
  else
    block.command.insert(block.command.size() - 1, " <<'TYPED'"), block.output.clear();
  block.command += line.substr(2) + "\n" + end;
}

void add_session(const std::string& text, int number, std::vector<Block>& result) {
  static const std::regex kAssignment("[A-Za-z_]+=[^ ]*");
  std::string assignments;
  bool goes_on = false;
  std::istringstream in(text);
  const size_t before = result.size();
  for (std::string line; std::getline(in, line);) {
    const bool command = line.starts_with("$ ");
    if (command && std::regex_match(line.substr(2), kAssignment))
      assignments += line.substr(2) + "\n";
    else if (command)
      result.push_back({number, assignments + line.substr(2) + "\n", ""});
    else if (goes_on)
      result.back().command += line + "\n";
    else if (result.size() > before)
      add_line(line, result.back());
    goes_on = (command || goes_on) && line.ends_with('\\');
  }
}

// A fence's text by its language; follows_command: nothing but white space parts it from an `sh` block.
void add_fence(const std::string& language, const std::string& text, int number, bool follows_command,
               std::vector<Block>& result) {
  if (language == "sh") result.push_back({number, text, ""});
  if (language == "text" && follows_command) result.back().output = text;
  if (language == "console") add_session(text, number, result);
  if (language.starts_with(kNotRun))
    result.push_back({number, text, "", false, language.substr(kNotRun.size())});
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
    if (line.starts_with("```") && !inside) {
      language = line.substr(3);
      text.clear();
      start = number;
      inside = true;
    } else if (line.starts_with("```")) {
      add_fence(language, text, start, follows_command, result);
      follows_command = language == "sh";
      inside = false;
    } else if (inside) {
      text += line + "\n";
    } else if (!line.empty()) {
      follows_command = false;
    }
  }
  return result;
}

std::vector<std::filesystem::path> pages(const std::filesystem::path& tree) {
  std::vector<std::filesystem::path> result;
  for (const auto& entry : std::filesystem::directory_iterator(tree / "docs"))
    if (entry.path().extension() == ".md") result.push_back(entry.path());
  std::sort(result.begin(), result.end());
  result.insert(result.begin(), tree / "README.md");
  return result;
}

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
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
