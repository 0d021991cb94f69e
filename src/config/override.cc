#include "config/override.h"

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "config/override_function.h"
#include "config/utf8.h"
#include "config/value_token.h"

namespace flagscale::config {
namespace {

// Length of a quoted value: to the first quote of its kind before which stands an even number of backslashes.
size_t quoted_length(std::string_view text) {
  size_t slashes = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == text[0] && slashes % 2 == 0) return i + 1;
    slashes = text[i] == '\\' ? slashes + 1 : 0;
  }
  return 0;
}

// Backslashes before a quote of the same kind stand for half as many.
std::string unquote(std::string_view quoted) {
  const char quote = quoted[0];
  std::string result;
  for (size_t i = 1; i < quoted.size();) {
    const size_t end = std::min(quoted.find_first_not_of('\\', i), quoted.size());
    const size_t slashes = end - i;
    const bool before_quote = end < quoted.size() && quoted[end] == quote;
    result.append(before_quote ? slashes / 2 : slashes, '\\');
    if (end < quoted.size() && end + 1 < quoted.size()) result += quoted[end];
    i = end + 1;
  }
  return result;
}

std::vector<Token> value_tokens(std::string_view text) {
  std::vector<Token> tokens;
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    Token token = value_token(rest, true);
    if (rest[0] == '"' || rest[0] == '\'') {
      token = {TokenKind::kQuoted, rest.substr(0, quoted_length(rest))};
    } else if (rest.starts_with("${")) {
      const size_t close = rest.find('}');
      if (close != std::string_view::npos && close > 2)
        token = {TokenKind::kInterpolation, rest.substr(0, close + 1)};
    }
    if (token.text.empty())
      fail(ErrorKind::kInvalidArgument, "cannot read it from '{}' on; quote the value", rest);
    tokens.push_back(token);
    at += token.text.size();
  }
  tokens.push_back({TokenKind::kEnd, {}});
  return tokens;
}

class ValueParser {
 public:
  explicit ValueParser(std::string_view text) : tokens_(value_tokens(text)) {}

  Argument whole() {
    Argument first = element();
    if (at(TokenKind::kComma)) {
      while (at(TokenKind::kComma)) {
        take();
        element();
      }
      first = {nullptr, true};
    }
    if (!at(TokenKind::kEnd)) stop();
    return first;
  }

 private:
  const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  bool at(TokenKind kind) const { return peek().kind == kind; }
  Token take() { return at(TokenKind::kEnd) ? peek() : tokens_[at_++]; }
  [[noreturn]] void stop() const {
    if (at(TokenKind::kEnd)) fail(ErrorKind::kInvalidArgument, "it ends too early");
    fail(ErrorKind::kInvalidArgument, "'{}' was not expected; quote the value", peek().text);
  }
  void expect(TokenKind kind) {
    if (!at(kind)) stop();
    take();
  }

  Argument element() {
    if (++depth_ > kMaxDepth) fail(ErrorKind::kInvalidArgument, "it is nested too deeply");
    Argument result;
    if (at(TokenKind::kId) && peek(1).kind == TokenKind::kParenOpen)
      result = function();
    else if (at(TokenKind::kBracketOpen))
      result.value = list();
    else if (at(TokenKind::kBraceOpen))
      result.value = mapping();
    else
      result = primitive(true);
    --depth_;
    return result;
  }

  // A sweep inside a container has no value either.
  NodePtr plain_element() {
    const Argument result = element();
    if (result.sweep) fail(ErrorKind::kInvalidArgument, "a sweep cannot stand in a list or mapping");
    return result.value;
  }

  NodePtr list() {
    take();
    NodePtr result = Node::list();
    while (!at(TokenKind::kBracketClose)) {
      result->append(plain_element());
      if (at(TokenKind::kBracketClose)) break;
      expect(TokenKind::kComma);
      if (at(TokenKind::kBracketClose)) stop();
    }
    take();
    return result;
  }

  NodePtr mapping() {
    take();
    NodePtr result = Node::map();
    while (!at(TokenKind::kBraceClose)) {
      const NodePtr key = primitive(false).value;
      expect(TokenKind::kColon);
      NodePtr value = plain_element();
      if (key->kind == Kind::kNull) fail(ErrorKind::kInvalidArgument, "null cannot be a key");
      const double number = key->kind == Kind::kBool ? (key->flag ? 1 : 0) : key->floating;
      result->set(key->kind == Kind::kString ? Key(key->text) : Key(key->kind, python_str(*key), number),
                  std::move(value));
      if (at(TokenKind::kBraceClose)) break;
      expect(TokenKind::kComma);
      if (at(TokenKind::kBraceClose)) stop();
    }
    take();
    return result;
  }

  Argument function() {
    const std::string name(take().text);
    take();
    std::vector<Argument> arguments;
    while (!at(TokenKind::kParenClose)) {
      std::string keyword;
      if (at(TokenKind::kId) && peek(1).kind == TokenKind::kEqual) {
        keyword = take().text;
        take();
      } else if (!arguments.empty() && !arguments.back().keyword.empty()) {
        fail(ErrorKind::kInvalidArgument, "a positional argument follows a named one");
      }
      arguments.push_back(element());
      arguments.back().keyword = keyword;
      if (at(TokenKind::kParenClose)) break;
      expect(TokenKind::kComma);
      if (at(TokenKind::kParenClose)) stop();
    }
    take();
    return call_function(name, arguments);
  }

  // One token has its type, several are one string; blanks at the ends are dropped.
  Argument primitive(bool value) {
    if (value && at(TokenKind::kQuoted)) return {Node::string(unquote(take().text)), false};
    std::vector<Token> parts;
    while (peek().kind <= TokenKind::kBlank ||
           (value && (at(TokenKind::kColon) || at(TokenKind::kInterpolation))))
      parts.push_back(take());
    if (parts.empty()) stop();
    if (parts.size() == 1 && parts[0].kind == TokenKind::kBlank)
      fail(ErrorKind::kInvalidArgument, "a value cannot be blank; quote it");
    if (parts.front().kind == TokenKind::kBlank) parts.erase(parts.begin());
    if (parts.size() > 1 && parts.back().kind == TokenKind::kBlank) parts.pop_back();
    if (parts.size() == 1) return {token_value(parts[0]), false};
    std::string text;
    for (const Token& part : parts)
      text += part.kind == TokenKind::kEscape ? unescape(part.text) : std::string(part.text);
    return {Node::string(text), false};
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

bool is_key_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         c == '$';
}

// ID, or the same with dollars.
bool is_word(std::string_view part, bool dollars) {
  if (part.empty() || part[0] == '-' || (part[0] >= '0' && part[0] <= '9')) return false;
  return std::all_of(part.begin(), part.end(),
                     [&](char c) { return is_key_character(c) && (dollars || c != '$'); });
}

// "", a word, or words and list positions with dots between.
bool is_package(std::string_view text) {
  if (text.empty()) return true;
  if (text.find('.') == std::string_view::npos) return is_word(text, true);
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string_view part = text.substr(begin, end - begin);
    if (!is_word(part, true) && (part.empty() || digits_length(part) != part.size())) return false;
    begin = end + 1;
  }
  return true;
}

bool is_group(std::string_view text) {
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('/', begin), text.size());
    if (!is_word(text.substr(begin, end - begin), false)) return false;
    begin = end + 1;
  }
  return text.find('/') != std::string_view::npos;
}

void parse_key(std::string_view text, Override& result) {
  const size_t at = text.find('@');
  result.key = text.substr(0, at);
  if (at != std::string_view::npos) {
    result.has_package = true;
    result.package = text.substr(at + 1);
    if (!is_package(result.package)) fail(ErrorKind::kInvalidArgument, "'{}' is no package", result.package);
  }
  if (!is_package(result.key) && !is_group(result.key))
    fail(ErrorKind::kInvalidArgument, "'{}' is no key", result.key);
}

Override parse(const std::string& text) {
  Override result;
  result.text = text;
  std::string_view rest = text;
  if (rest.starts_with("++"))
    result.type = Override::Type::kForceAdd, rest.remove_prefix(2);
  else if (rest.starts_with("+"))
    result.type = Override::Type::kAdd, rest.remove_prefix(1);
  else if (rest.starts_with("~"))
    result.type = Override::Type::kDelete, rest.remove_prefix(1);
  const size_t equal = rest.find('=');
  parse_key(rest.substr(0, equal), result);
  if (equal == std::string_view::npos) {
    if (result.type != Override::Type::kDelete) fail(ErrorKind::kInvalidArgument, "it has no '='");
    return result;
  }
  rest.remove_prefix(equal + 1);
  rest.remove_prefix(blank_length(rest));
  if (rest.empty()) {
    result.value = Node::string("");
    return result;
  }
  const Argument value = ValueParser(rest).whole();
  if (value.sweep)
    fail(ErrorKind::kInvalidArgument,
         "it names several values (a sweep); for a list write [a,b], for text with a comma quote it: "
         "'\"a,b\"'");
  result.value = value.value;
  return result;
}

void set_origin(Node& node, const Origin& origin) {
  node.origin = origin;
  for (const Entry& entry : node.entries) set_origin(*entry.value, origin);
  for (const NodePtr& item : node.items) set_origin(*item, origin);
}

}  // namespace

std::string Override::key_element() const {
  const char* prefix[] = {"", "+", "++", "~"};
  return prefix[static_cast<int>(type)] + key + (has_package ? "@" + package : "");
}

Override parse_override(const std::string& text) {
  try {
    if (const auto bad = first_bad_character(text)) fail(ErrorKind::kInvalidArgument, "it {}", bad->what);
    Override result = parse(text);
    if (result.value) set_origin(*result.value, {nullptr, 0, std::make_shared<const std::string>(text)});
    return result;
  } catch (const Error& error) {
    fail(ErrorKind::kInvalidArgument, "the override '{}' is refused: {}", text, error.what());
  }
}

std::vector<Override> parse_overrides(const std::vector<std::string>& texts) {
  std::vector<Override> result;
  for (const std::string& text : texts) result.push_back(parse_override(text));
  return result;
}

}  // namespace flagscale::config
