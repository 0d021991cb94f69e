#pragma once
// The tokens that Hydra's override grammar and OmegaConf's interpolation grammar share: numbers, words,
// escapes, commas and brackets with the blanks around them. As in ANTLR, the longest match wins, and of
// equals the first listed.

#include <cstddef>
#include <string>
#include <string_view>

#include "config/node.h"

namespace flagscale::config {

enum class TokenKind {
  kFloat,
  kInt,
  kBool,
  kNull,
  kUnquoted,
  kId,
  kEscape,
  kBlank,  // the parts of a primitive, with kColon
  kComma,
  kColon,
  kEqual,
  kBracketOpen,
  kBracketClose,
  kBraceOpen,
  kBraceClose,
  kParenOpen,
  kParenClose,
  kQuoted,         // override: a whole quoted value
  kInterpolation,  // override: a whole ${...}
  kInterOpen,
  kInterClose,
  kDot,
  kInterKey,  // interpolation
  kQuoteOpen,
  kQuoteClose,
  kAnyText,
  kEscapedInter,
  kTopEscape,
  kQuotedEscape,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string_view text;
};

// The shared token at the start of `rest` ("" at length 0 when there is none). functions: parentheses and '='
// count.
Token value_token(std::string_view rest, bool functions);

size_t blank_length(std::string_view text);  // of [ \t]*
size_t id_length(std::string_view text);     // of [a-zA-Z_][a-zA-Z0-9_-]*
size_t digits_length(
    std::string_view text);  // of an unsigned integer: 0, or no leading zero and single underscores

// The value of a lone token: int, float, bool, null or string (escapes undone).
NodePtr token_value(const Token& token);
std::string unescape(std::string_view text);  // every other character: "\,\\" is ",\"

}  // namespace flagscale::config
