#include "data/generation_marks.h"

#include <fmt/core.h>

#include <algorithm>

namespace flagscale::data {

// {%- generation %} writes kMarkBegin too, {%- endgeneration %} kMarkEnd. The marks stand in blocks of their
// own, so that the white space around is cut as before.
std::string with_marks(const std::string& source, bool& found) {
  std::string result;
  std::string_view rest = source;
  for (size_t at; (at = rest.find("{%")) != std::string_view::npos;) {
    const size_t close = rest.find("%}", at);
    if (close == std::string_view::npos) break;
    result += rest.substr(0, at);
    const std::string_view tag = rest.substr(at, close + 2 - at);
    std::string_view word = tag.substr(2, tag.size() - 4);
    const auto is_sign = [](char c) { return c == '-' || c == '+'; };
    const std::string left(!word.empty() && is_sign(word.front()) ? word.substr(0, 1) : "");
    const std::string right(word.size() > left.size() && is_sign(word.back()) ? word.substr(word.size() - 1)
                                                                              : "");
    word = word.substr(left.size(), word.size() - left.size() - right.size());
    word.remove_prefix(std::min(word.find_first_not_of(" \t\n"), word.size()));
    word = word.substr(0, word.find_last_not_of(" \t\n") + 1);
    const auto mark = [](std::string_view text) { return fmt::format("{{{{ '{}' }}}}", text); };
    if (word == "generation")
      result +=
          fmt::format("{{%{} if true %}}{}{{% endif %}}{{% generation {}%}}", left, mark(kMarkBegin), right);
    else if (word == "endgeneration")
      result +=
          fmt::format("{{%{} endgeneration %}}{{% if true %}}{}{{% endif {}%}}", left, mark(kMarkEnd), right);
    else
      result += tag;
    found = found || word == "generation";
    rest.remove_prefix(close + 2);
  }
  return result += rest;
}

}  // namespace flagscale::data
