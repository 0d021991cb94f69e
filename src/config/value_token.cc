#include "config/value_token.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "config/yaml_scalar.h"

namespace flagscale::config {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool starts_with_word(std::string_view text, std::string_view word) {
  return text.size() >= word.size() &&
         std::equal(word.begin(), word.end(), text.begin(), [](char w, char t) { return w == lower(t); });
}

// DIGIT (('_')? DIGIT)*
size_t grouped_digits(std::string_view text) {
  size_t n = 0;
  while (n < text.size()) {
    if (is_digit(text[n]))
      ++n;
    else if (n > 0 && text[n] == '_' && n + 1 < text.size() && is_digit(text[n + 1]))
      n += 2;
    else
      break;
  }
  return n;
}

size_t exponent_length(std::string_view text) {
  if (text.empty() || lower(text[0]) != 'e') return 0;
  size_t n = 1;
  if (n < text.size() && (text[n] == '+' || text[n] == '-')) ++n;
  const size_t digits = grouped_digits(text.substr(n));
  return digits == 0 ? 0 : n + digits;
}

size_t float_length(std::string_view text) {
  const size_t sign = !text.empty() && (text[0] == '+' || text[0] == '-') ? 1 : 0;
  const std::string_view rest = text.substr(sign);
  if (starts_with_word(rest, "inf") || starts_with_word(rest, "nan")) return sign + 3;
  const size_t whole = digits_length(rest);
  size_t n = whole;
  bool point = false;
  if (n < rest.size() && rest[n] == '.') {
    const size_t fraction = grouped_digits(rest.substr(n + 1));
    point = whole > 0 || fraction > 0;
    if (point) n += 1 + fraction;
  }
  if (n == 0) return 0;
  const size_t exponent = exponent_length(rest.substr(n));
  return point || exponent > 0 ? sign + n + exponent : 0;
}

size_t int_length(std::string_view text) {
  const size_t sign = !text.empty() && (text[0] == '+' || text[0] == '-') ? 1 : 0;
  const size_t digits = digits_length(text.substr(sign));
  return digits == 0 ? 0 : sign + digits;
}

size_t escape_length(std::string_view text) {
  size_t n = 0;
  constexpr std::string_view kEscaped = "\\()[]{}:=, \t";
  while (n + 1 < text.size() && text[n] == '\\' && kEscaped.find(text[n + 1]) != std::string_view::npos)
    n += 2;
  return n;
}

// A mark with the blanks that belong to it.
size_t mark_length(std::string_view text, char mark, bool before, bool after) {
  const size_t front = before ? blank_length(text) : 0;
  if (front >= text.size() || text[front] != mark) return 0;
  return front + 1 + (after ? blank_length(text.substr(front + 1)) : 0);
}

}  // namespace

size_t blank_length(std::string_view text) { return std::min(text.find_first_not_of(" \t"), text.size()); }

size_t id_length(std::string_view text) {
  if (text.empty() || !(is_letter(text[0]) || text[0] == '_')) return 0;
  size_t n = 1;
  while (n < text.size() && (is_letter(text[n]) || is_digit(text[n]) || text[n] == '_' || text[n] == '-'))
    ++n;
  return n;
}

size_t digits_length(std::string_view text) {
  if (text.empty() || !is_digit(text[0])) return 0;
  return text[0] == '0' ? 1 : grouped_digits(text);
}

Token value_token(std::string_view rest, bool functions) {
  Token best;
  const auto offer = [&](TokenKind kind, size_t length) {
    if (length > best.text.size()) best = {kind, rest.substr(0, length)};
  };
  if (functions) {
    offer(TokenKind::kParenOpen, mark_length(rest, '(', true, true));
    offer(TokenKind::kParenClose, mark_length(rest, ')', true, false));
    offer(TokenKind::kEqual, mark_length(rest, '=', true, true));
  }
  offer(TokenKind::kComma, mark_length(rest, ',', true, true));
  offer(TokenKind::kBracketOpen, mark_length(rest, '[', false, true));
  offer(TokenKind::kBracketClose, mark_length(rest, ']', true, false));
  offer(TokenKind::kBraceOpen, mark_length(rest, '{', false, true));
  offer(TokenKind::kBraceClose, mark_length(rest, '}', true, false));
  offer(TokenKind::kColon, mark_length(rest, ':', true, true));
  offer(TokenKind::kFloat, float_length(rest));
  offer(TokenKind::kInt, int_length(rest));
  if (starts_with_word(rest, "true")) offer(TokenKind::kBool, 4);
  if (starts_with_word(rest, "false")) offer(TokenKind::kBool, 5);
  if (starts_with_word(rest, "null")) offer(TokenKind::kNull, 4);
  constexpr std::string_view kUnquoted = "/-\\+.$%*@?|";
  if (!rest.empty() && kUnquoted.find(rest[0]) != std::string_view::npos) offer(TokenKind::kUnquoted, 1);
  offer(TokenKind::kId, id_length(rest));
  offer(TokenKind::kEscape, escape_length(rest));
  offer(TokenKind::kBlank, blank_length(rest));
  return best;
}

std::string unescape(std::string_view text) {
  std::string result;
  for (size_t i = 1; i < text.size(); i += 2) result += text[i];
  return result;
}

NodePtr token_value(const Token& token) {
  std::string text(token.text);
  if (token.kind == TokenKind::kEscape) return Node::string(unescape(token.text));
  if (token.kind == TokenKind::kNull) return Node::null();
  if (token.kind == TokenKind::kBool) return Node::boolean(lower(text[0]) == 't');
  if (token.kind != TokenKind::kInt && token.kind != TokenKind::kFloat) return Node::string(text);

  std::erase(text, '_');
  const bool negative = text[0] == '-';
  if (negative || text[0] == '+') text.erase(0, 1);
  if (token.kind == TokenKind::kInt) {
    const NodePtr node = integer_from_digits(text, 10, negative);
    if (!node) fail(ErrorKind::kConfig, "an integer of {} digits is too long", text.size());
    return node;
  }
  double value = 0;
  if (lower(text[0]) == 'i')
    value = INFINITY;
  else if (lower(text[0]) == 'n')
    value = std::numeric_limits<double>::quiet_NaN();
  else
    value = std::strtod(text.c_str(), nullptr);
  return Node::real(negative ? -value : value);
}

}  // namespace flagscale::config
