#include "config/interpolation.h"

#include <algorithm>

#include "base/error.h"
#include "config/interpolation_lexer.h"

namespace flagscale::config {
namespace {

class Parser {
 public:
  Parser(const std::string& text, bool in_value)
      : text_(text), tokens_(interpolation_tokens(text, in_value)) {}

  Pieces whole_text() {
    Pieces pieces = text_pieces();
    expect(TokenKind::kEnd);
    return pieces;
  }

  Element whole_element() {
    Element result = element();
    expect(TokenKind::kEnd);
    return result;
  }

 private:
  struct Deeper {  // bounds the recursion
    explicit Deeper(Parser& p) : parser(p) {
      if (++parser.depth_ > kMaxDepth) fail(ErrorKind::kConfig, "'{}' is nested too deeply", parser.text_);
    }
    ~Deeper() { --parser.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
    Parser& parser;
  };

  const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  bool at(TokenKind kind) const { return peek().kind == kind; }
  Token take() { return at(TokenKind::kEnd) ? peek() : tokens_[at_++]; }

  [[noreturn]] void stop() const {
    if (at(TokenKind::kEnd)) fail(ErrorKind::kConfig, "the interpolation in '{}' is not closed", text_);
    fail(ErrorKind::kConfig, "'{}' was not expected in '{}'", peek().text, text_);
  }
  Token expect(TokenKind kind) {
    if (!at(kind)) stop();
    return take();
  }

  // Text and interpolations, escapes undone where they protect something.
  Pieces text_pieces() {
    Pieces pieces;
    for (;;) {
      if (at(TokenKind::kInterOpen)) {
        pieces.push_back({"", interpolation()});
        continue;
      }
      const Token token = peek();
      const bool is_text = token.kind == TokenKind::kAnyText || token.kind == TokenKind::kEscape ||
                           token.kind == TokenKind::kEscapedInter || token.kind == TokenKind::kTopEscape ||
                           token.kind == TokenKind::kQuotedEscape;
      if (!is_text) break;
      take();
      pieces.push_back({text_of(token), nullptr});
    }
    if (pieces.empty()) stop();
    return pieces;
  }

  std::string text_of(const Token& token) const {
    const bool before_inter = at(TokenKind::kInterOpen);
    if (token.kind == TokenKind::kEscapedInter)
      return std::string(token.text.substr(token.text.size() - token.text.size() / 2 - 1));
    if (token.kind == TokenKind::kEscape) return unescape(token.text);
    if (token.kind == TokenKind::kTopEscape && before_inter) return unescape(token.text);
    if (token.kind == TokenKind::kQuotedEscape && (before_inter || at(TokenKind::kQuoteClose)))
      return unescape(token.text);
    return std::string(token.text);
  }

  std::shared_ptr<Interpolation> interpolation() {
    const Deeper deeper(*this);
    expect(TokenKind::kInterOpen);
    auto result = std::make_shared<Interpolation>();
    Pieces path;
    bool brackets = false, key_only_ids = true;
    while (at(TokenKind::kDot)) path.push_back({std::string(take().text), nullptr});
    const bool relative = !path.empty();
    bool first = true;
    for (;;) {
      if (at(TokenKind::kBracketOpen)) {
        brackets = true;
        path.push_back({std::string(take().text), nullptr});
        path.push_back(config_key(key_only_ids));
        path.push_back({std::string(expect(TokenKind::kBracketClose).text), nullptr});
      } else {
        if (!first) path.push_back({std::string(expect(TokenKind::kDot).text), nullptr});
        path.push_back(config_key(key_only_ids));
      }
      first = false;
      if (!at(TokenKind::kDot) && !at(TokenKind::kBracketOpen)) break;
    }
    if (at(TokenKind::kInterClose)) {
      take();
      result->path = std::move(path);
      return result;
    }
    if (relative || brackets || !key_only_ids) stop();
    expect(TokenKind::kColon);
    result->resolver = std::move(path);
    result->arguments = sequence(TokenKind::kBraceClose);
    expect(TokenKind::kBraceClose);
    return result;
  }

  Piece config_key(bool& only_ids) {
    if (at(TokenKind::kInterOpen)) return {"", interpolation()};
    if (at(TokenKind::kInterKey))
      only_ids = false;
    else if (!at(TokenKind::kId))
      stop();
    return {std::string(take().text), nullptr};
  }

  // Elements between commas up to `end`, which stays; a missing one is an empty string.
  std::vector<Element> sequence(TokenKind end) {
    std::vector<Element> result;
    if (at(end)) return result;
    for (;;) {
      if (at(TokenKind::kComma) || at(end)) {
        Element empty;
        empty.value = Node::string("");
        result.push_back(std::move(empty));
      } else {
        result.push_back(element());
      }
      if (!at(TokenKind::kComma)) return result;
      take();
    }
  }

  Element element() {
    const Deeper deeper(*this);
    Element result;
    if (at(TokenKind::kQuoteOpen)) {
      take();
      result.kind = Element::Kind::kText;
      result.pieces.push_back({"", nullptr});  // a quoted interpolation is a string
      if (!at(TokenKind::kQuoteClose)) {
        Pieces pieces = text_pieces();
        result.pieces.insert(result.pieces.end(), pieces.begin(), pieces.end());
      }
      expect(TokenKind::kQuoteClose);
    } else if (at(TokenKind::kBracketOpen)) {
      take();
      result.kind = Element::Kind::kList;
      result.items = sequence(TokenKind::kBracketClose);
      expect(TokenKind::kBracketClose);
    } else if (at(TokenKind::kBraceOpen)) {
      mapping(result);
    } else {
      primitive(result, true);
    }
    return result;
  }

  void mapping(Element& result) {
    result.kind = Element::Kind::kMap;
    take();
    while (!at(TokenKind::kBraceClose)) {
      Element key;
      primitive(key, false);
      expect(TokenKind::kColon);
      result.items.push_back(element());
      std::string text;
      for (const Piece& piece : key.pieces) text += piece.text;
      result.keys.push_back(key.kind == Element::Kind::kValue ? key.value : Node::string(text));
      if (at(TokenKind::kBraceClose)) break;
      expect(TokenKind::kComma);
      if (at(TokenKind::kBraceClose)) stop();
    }
    take();
  }

  // One token has its type, several are a string. A key has no colons and no interpolations.
  void primitive(Element& result, bool value) {
    std::vector<Token> literal;
    for (;;) {
      if (value && at(TokenKind::kInterOpen)) {
        result.pieces.push_back({"", interpolation()});
        continue;
      }
      const bool part = peek().kind <= TokenKind::kBlank || (value && at(TokenKind::kColon));
      if (!part) break;
      literal.push_back(take());
      const Token& token = literal.back();
      result.pieces.push_back(
          {token.kind == TokenKind::kEscape ? unescape(token.text) : std::string(token.text), nullptr});
    }
    if (result.pieces.empty()) stop();
    if (result.pieces.size() == 1 && literal.size() == 1)
      result.value = token_value(literal[0]);
    else
      result.kind = Element::Kind::kText;
  }

  const std::string& text_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Pieces parse_interpolation(const std::string& text) { return Parser(text, false).whole_text(); }
Element parse_element(const std::string& text) { return Parser(text, true).whole_element(); }

}  // namespace flagscale::config
