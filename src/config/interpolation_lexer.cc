#include "config/interpolation_lexer.h"

#include <algorithm>

#include "base/error.h"

namespace flagscale::config {
namespace {

enum class LexerMode { kText, kValue, kInterpolation, kSingle, kDouble };

size_t run_length(std::string_view text, char c) { return std::min(text.find_first_not_of(c), text.size()); }

size_t open_length(std::string_view text) {
  return text.starts_with("${") ? 2 + blank_length(text.substr(2)) : 0;
}

// Text, bare or in quotes (quote != 0): everything but backslashes, dollars and the closing quote is plain.
Token text_token(std::string_view rest, char quote) {
  const char stops[] = {'\\', '$', quote == 0 ? '$' : quote};
  const size_t plain = std::min(rest.find_first_of(std::string_view(stops, 3)), rest.size());
  if (plain > 0) return {TokenKind::kAnyText, rest.substr(0, plain)};
  if (quote != 0 && rest[0] == quote) return {TokenKind::kQuoteClose, rest.substr(0, 1)};
  if (rest[0] == '$') {
    const size_t open = open_length(rest);
    return open > 0 ? Token{TokenKind::kInterOpen, rest.substr(0, open)}
                    : Token{TokenKind::kAnyText, rest.substr(0, 1)};
  }
  const size_t slashes = run_length(rest, '\\');
  const std::string_view after = rest.substr(slashes);
  if (slashes % 2 == 1) {
    if (after.starts_with("${")) return {TokenKind::kEscapedInter, rest.substr(0, slashes + 2)};
    if (quote != 0 && after.starts_with(quote)) return {TokenKind::kEscape, rest.substr(0, slashes + 1)};
    return {TokenKind::kAnyText, rest.substr(0, slashes)};
  }
  return {quote == 0 ? TokenKind::kTopEscape : TokenKind::kQuotedEscape, rest.substr(0, slashes)};
}

Token interpolation_token(std::string_view rest) {
  Token best;
  const auto offer = [&](TokenKind kind, size_t length) {
    if (length > best.text.size()) best = {kind, rest.substr(0, length)};
  };
  offer(TokenKind::kInterOpen, open_length(rest));
  const size_t blank = blank_length(rest);
  if (rest.substr(blank).starts_with(':'))
    offer(TokenKind::kColon, blank + 1 + blank_length(rest.substr(blank + 1)));
  if (rest.substr(blank).starts_with('}')) offer(TokenKind::kInterClose, blank + 1);
  if (rest[0] == '.') offer(TokenKind::kDot, 1);
  if (rest[0] == '[') offer(TokenKind::kBracketOpen, 1);
  if (rest[0] == ']') offer(TokenKind::kBracketClose, 1);
  offer(TokenKind::kId, id_length(rest));
  offer(TokenKind::kInterKey, std::min(rest.find_first_of("\\{}()[]:. \t'\""), rest.size()));
  return best;
}

Token inner_value_token(std::string_view rest) {
  const size_t open = open_length(rest);
  if (open > 0) return {TokenKind::kInterOpen, rest.substr(0, open)};
  if (rest[0] == '\'' || rest[0] == '"') return {TokenKind::kQuoteOpen, rest.substr(0, 1)};
  return value_token(rest, false);
}

Token next(LexerMode mode, std::string_view rest) {
  switch (mode) {
    case LexerMode::kText:
      return text_token(rest, 0);
    case LexerMode::kSingle:
      return text_token(rest, '\'');
    case LexerMode::kDouble:
      return text_token(rest, '"');
    case LexerMode::kValue:
      return inner_value_token(rest);
    case LexerMode::kInterpolation:
      return interpolation_token(rest);
  }
  return {};
}

}  // namespace

std::vector<Token> interpolation_tokens(std::string_view text, bool in_value) {
  std::vector<Token> tokens;
  std::vector<LexerMode> modes{in_value ? LexerMode::kValue : LexerMode::kText};
  for (size_t at = 0; at < text.size();) {
    const Token token = next(modes.back(), text.substr(at));
    if (token.text.empty()) fail(ErrorKind::kConfig, "cannot read '{}' in '{}'", text.substr(at), text);
    at += token.text.size();
    if (token.kind == TokenKind::kInterOpen)
      modes.push_back(LexerMode::kInterpolation);
    else if (token.kind == TokenKind::kBraceOpen)
      modes.push_back(LexerMode::kValue);
    else if (token.kind == TokenKind::kQuoteOpen)
      modes.push_back(token.text[0] == '"' ? LexerMode::kDouble : LexerMode::kSingle);
    else if (token.kind == TokenKind::kColon && modes.back() == LexerMode::kInterpolation)
      modes.back() = LexerMode::kValue;
    else if (token.kind == TokenKind::kInterClose || token.kind == TokenKind::kBraceClose ||
             token.kind == TokenKind::kQuoteClose) {
      modes.pop_back();
      if (modes.empty()) fail(ErrorKind::kConfig, "'{}' closes a brace that it did not open", text);
    }
    tokens.push_back(token);
  }
  tokens.push_back({TokenKind::kEnd, {}});
  return tokens;
}

}  // namespace flagscale::config
