#include "text/sentencepiece_normalizer.h"

#include <cstring>

#include "base/error.h"
#include "text/unicode.h"

namespace flagscale::text {
namespace {

// Darts-clone's units: a label, whether a leaf hangs below, and the offset to the children; or a leaf's
// value.
constexpr uint32_t kLeafBit = uint32_t{1} << 31;
uint32_t label(uint32_t unit) { return unit & (kLeafBit | 0xff); }
bool has_leaf(uint32_t unit) { return unit >> 8 & 1; }
uint32_t offset(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

bool continues(char byte) { return (byte & 0xc0) == 0x80; }

}  // namespace

Charsmap::Charsmap(std::string_view bytes, const std::string& source) {
  if (bytes.empty()) return;
  const auto broken = [&](const char* why) {
    fail(ErrorKind::kCorrupt, "{}: its rules of normalisation {}", source, why);
  };
  uint32_t size = 0;
  if (bytes.size() < sizeof size) broken("are cut short");
  std::memcpy(&size, bytes.data(), sizeof size);
  bytes.remove_prefix(sizeof size);
  if (size >= bytes.size() || size < 1024 || size % 1024 != 0) broken("have no table");
  units_.resize(size / 4);
  std::memcpy(units_.data(), bytes.data(), size);
  results_ = bytes.substr(size);
  if (results_.back() != '\0' || valid_utf8_prefix(results_) != results_.size())
    broken("do not end, or are not UTF-8");
  for (uint32_t i = 0; i < units_.size(); ++i) {
    const uint32_t unit = units_[i];
    if (unit & kLeafBit) {
      const uint32_t at = unit & ~kLeafBit;
      if (i == 0 || at >= results_.size() || continues(results_[at])) broken("point beyond what they make");
      continue;
    }
    const uint32_t children = i ^ offset(unit);
    if ((children | 0xff) >= units_.size() || (has_leaf(unit) && !(units_[children] & kLeafBit)))
      broken("point beyond their table");
  }
}

uint32_t Charsmap::child(uint32_t node, unsigned char byte) const {
  const uint32_t at = node ^ offset(units_[node]) ^ byte;
  return label(units_[at]) == byte ? at : 0;
}

Charsmap::Match Charsmap::longest(std::string_view text) const {
  Match match;
  if (units_.empty()) return match;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    node = child(node, static_cast<unsigned char>(text[i]));
    if (node == 0) break;
    if (!has_leaf(units_[node])) continue;
    const uint32_t leaf = units_[node ^ offset(units_[node])];
    match = {i + 1, results_.c_str() + (leaf & ~kLeafBit)};
  }
  return match;
}

bool Charsmap::leaves_ascii(char byte) const {
  if (units_.empty()) return true;
  const uint32_t node = child(0, static_cast<unsigned char>(byte));
  if (node == 0) return true;
  if (has_leaf(units_[node])) return false;
  for (unsigned char next = 0; next < 0x80; ++next)
    if (child(node, next) != 0) return false;
  return true;
}

SentencePieceNormalizer::SentencePieceNormalizer(const SentencePieceSpec& spec, const std::string& source)
    : rules_(spec.charsmap, source),
      prefix_(spec.add_dummy_prefix && !spec.space_as_suffix),
      suffix_(spec.add_dummy_prefix && spec.space_as_suffix),
      trim_(spec.remove_extra_spaces),
      escape_(spec.escape_spaces),
      prefix_unless_space_(spec.prefix_unless_space),
      prefix_once_(spec.prefix_once) {
  for (size_t byte = 0; byte < 0x80; ++byte) copied_[byte] = rules_.leaves_ascii(static_cast<char>(byte));
  for (const Piece& piece : spec.pieces) {
    if (piece.type != PieceType::kUserDefined) continue;
    user_defined_.insert(piece.text, 0);
    copied_[static_cast<unsigned char>(piece.text[0])] = false;
  }
  only_spaces_ = spec.charsmap.empty() && user_defined_.empty() && !trim_;
}

SentencePieceNormalizer::SentencePieceNormalizer(ImageReader& image) : rules_(image), user_defined_(image) {
  image.flags({&prefix_, &suffix_, &trim_, &escape_, &prefix_unless_space_, &prefix_once_, &only_spaces_});
  const std::string copied = image.text();
  for (size_t byte = 0; byte < copied_.size() && byte < copied.size(); ++byte)
    copied_[byte] = copied[byte] != 0;
}

void SentencePieceNormalizer::put(ImageWriter& image) const {
  rules_.put(image);
  user_defined_.put(image);
  image.flags({prefix_, suffix_, trim_, escape_, prefix_unless_space_, prefix_once_, only_spaces_});
  image.text(std::string(copied_.begin(), copied_.end()));
}

bool SentencePieceNormalizer::to_inner(std::string& piece) const {
  if (!escape_) return true;
  if (piece.find(' ') != piece.npos) return false;
  std::string inner;
  append(piece, inner);
  piece = std::move(inner);
  return true;
}

// Appends text with ▁ as the space that it stands for.
void SentencePieceNormalizer::append(std::string_view text, std::string& out) const {
  for (size_t at = 0; escape_;) {
    const size_t symbol = text.find(kSpaceSymbol, at);
    out += text.substr(at, symbol - at);
    if (symbol == text.npos) return;
    out += ' ';
    at = symbol + kSpaceSymbol.size();
  }
  out += text;
}

// What the start of a text that is not empty becomes.
SentencePieceNormalizer::Prefix SentencePieceNormalizer::prefix(std::string_view text) const {
  int32_t ignored;
  if (!user_defined_.empty())
    if (const size_t size = user_defined_.longest(text, ignored)) return {size, text.substr(0, size)};
  if (const Charsmap::Match match = rules_.longest(text); match.size > 0) return {match.size, match.result};
  // A rule may have ended inside a character.
  if (continues(text[0])) return {1, "\xef\xbf\xbd"};
  const size_t size = decode_char(text.data()).size;
  return {size, text.substr(0, size)};
}

void SentencePieceNormalizer::append_all(std::string_view text, std::string& out) const {
  bool after_space = trim_;
  for (size_t at = 0; at < text.size();) {
    // Up to the last ASCII character before another one, spaces that stay among them.
    size_t plain = at;
    while (plain + 1 < text.size() && copied_[static_cast<unsigned char>(text[plain])] &&
           static_cast<unsigned char>(text[plain + 1]) < 0x80 &&
           !(trim_ && text[plain] == ' ' && (text[plain + 1] == ' ' || (plain == at && after_space))))
      ++plain;
    if (plain > at) {
      out += text.substr(at, plain - at);
      at = plain;
      after_space = trim_ && out.back() == ' ';
    }
    auto [size, result] = prefix(text.substr(at));
    at += size;
    while (after_space && result.starts_with(' ')) result.remove_prefix(1);
    if (result.empty()) continue;
    after_space = trim_ && result.ends_with(' ');
    append(result, out);
  }
}

std::string_view SentencePieceNormalizer::normalize(std::string_view text, bool at_start,
                                                    std::string& storage) const {
  if (trim_)
    while (!text.empty()) {
      const auto [size, result] = prefix(text);
      if (result != " ") break;
      text.remove_prefix(size);
    }
  if (text.empty()) return {};
  storage.clear();
  const bool has_space = text.starts_with(' ') || text.starts_with(kSpaceSymbol);
  if (prefix_ && (at_start || !prefix_once_) && !(has_space && prefix_unless_space_)) storage += ' ';
  if (only_spaces_)
    append(text, storage);
  else
    append_all(text, storage);
  if (trim_)
    while (storage.ends_with(' ')) storage.pop_back();
  if (suffix_) storage += ' ';
  return storage;
}

}  // namespace flagscale::text
