#include "text/sentencepiece_file.h"

#include <bitset>
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "base/error.h"
#include "text/token_table.h"
#include "text/unicode.h"

namespace flagscale::text {
namespace {

// One message of protobuf's wire format, field after field.
class Fields {
 public:
  Fields(std::string_view bytes, const std::string& source) : bytes_(bytes), source_(source) {}

  bool next() {
    if (at_ == bytes_.size()) return false;
    const uint64_t tag = varint();
    number_ = tag >> 3;
    value_ = 0, text_ = {};
    switch (tag & 7) {
      case 0:
        value_ = varint();
        return true;
      case 1:
        take(8);
        return true;
      case 2:
        text_ = take(varint());
        return true;
      case 5:
        text_ = take(4);
        return true;
      default:
        broken();
    }
  }
  uint64_t number() const { return number_; }
  bool flag() const { return value_ != 0; }
  uint64_t value() const { return value_; }
  std::string_view text() const { return text_; }
  float real() const {
    float value = 0;
    if (text_.size() != sizeof value) broken();
    std::memcpy(&value, text_.data(), sizeof value);
    return value;
  }

 private:
  [[noreturn]] void broken() const {
    fail(ErrorKind::kCorrupt, "{}: not a SentencePiece model: its fields end at byte {} of {}", source_, at_,
         bytes_.size());
  }
  std::string_view take(uint64_t size) {
    if (size > bytes_.size() - at_) broken();
    const std::string_view taken = bytes_.substr(at_, size);
    at_ += size;
    return taken;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    broken();
  }

  std::string_view bytes_;
  const std::string& source_;
  size_t at_ = 0;
  uint64_t number_ = 0, value_ = 0;
  std::string_view text_;
};

// Field numbers are those of sentencepiece_model.proto.
Piece read_piece(Fields fields) {
  Piece piece;
  while (fields.next()) {
    if (fields.number() == 1) piece.text = fields.text();
    if (fields.number() == 2) piece.score = fields.real();
    if (fields.number() == 3 && fields.value() >= 1 && fields.value() <= 6)
      piece.type = static_cast<PieceType>(fields.value());
  }
  return piece;
}

void read_trainer(Fields fields, SentencePieceSpec& spec) {
  const auto text = [&](std::string& into) {
    if (!fields.text().empty()) into = fields.text();
  };
  while (fields.next()) {
    switch (fields.number()) {
      case 3:
        if (fields.value() >= 1 && fields.value() <= 4)
          spec.algorithm = static_cast<PieceAlgorithm>(fields.value());
        break;
      case 24:
        spec.space_as_suffix = fields.flag();
        break;
      case 35:
        spec.byte_fallback = fields.flag();
        break;
      case 45:
        text(spec.unk);
        break;
      case 46:
        text(spec.bos);
        break;
      case 47:
        text(spec.eos);
        break;
      case 48:
        text(spec.pad);
        break;
      default:
        break;
    }
  }
}

void read_normalizer(Fields fields, SentencePieceSpec& spec) {
  while (fields.next()) {
    if (fields.number() == 2) spec.charsmap = fields.text();
    if (fields.number() == 3) spec.add_dummy_prefix = fields.flag();
    if (fields.number() == 4) spec.remove_extra_spaces = fields.flag();
    if (fields.number() == 5) spec.escape_spaces = fields.flag();
  }
}

void check(const SentencePieceSpec& spec, const std::string& source) {
  const auto& pieces = spec.pieces;
  if (pieces.empty() || pieces.size() > kMaxTokenId)
    fail(ErrorKind::kCorrupt, "{}: not a SentencePiece model: {} pieces", source, pieces.size());
  std::unordered_set<std::string_view> seen;
  std::bitset<256> bytes;
  size_t unknown = 0;
  for (size_t id = 0; id < pieces.size(); ++id) {
    const Piece& piece = pieces[id];
    const auto bad = [&](const char* why) {
      fail(ErrorKind::kCorrupt, "{}: piece {} ('{}') {}", source, id, utf8_lossy(piece.text.substr(0, 40)),
           why);
    };
    constexpr size_t kMostBytes = 8000;
    if (piece.text.empty()) bad("is empty");
    if (piece.text.size() >= kMostBytes) bad("is longer than 8,000 bytes");
    if (valid_utf8_prefix(piece.text) != piece.text.size()) bad("is not UTF-8");
    if (!std::isfinite(piece.score)) bad("has a score that is not a number");
    if (!seen.insert(piece.text).second) bad("stands there twice");
    unknown += piece.type == PieceType::kUnknown;
    if (piece.type != PieceType::kByte) continue;
    const int byte = byte_of_piece(piece.text);
    if (byte < 0) bad("is no byte, though its type says so");
    bytes.set(static_cast<size_t>(byte));
  }
  if (unknown > 1 || (unknown == 0 && !spec.byte_fallback))
    fail(ErrorKind::kCorrupt, "{}: {} pieces for what is unknown, where there must be one", source, unknown);
  if (spec.byte_fallback ? !bytes.all() : bytes.any())
    fail(ErrorKind::kCorrupt, "{}: {} pieces for bytes, with byte_fallback {}", source, bytes.count(),
         spec.byte_fallback);
}

}  // namespace

int byte_of_piece(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const size_t high = kDigits.find(text[3]), low = kDigits.find(text[4]);
  return high == kDigits.npos || low == kDigits.npos ? -1 : static_cast<int>(high * 16 + low);
}

SentencePieceSpec read_sentencepiece(std::string_view file, const std::string& source) {
  SentencePieceSpec spec;
  Fields fields(file, source);
  while (fields.next()) {
    if (fields.number() == 1) spec.pieces.push_back(read_piece({fields.text(), source}));
    if (fields.number() == 2) read_trainer({fields.text(), source}, spec);
    if (fields.number() == 3) read_normalizer({fields.text(), source}, spec);
  }
  // Some converters write the zero byte as a piece beside <0x00>: such a one is not used.
  for (Piece& piece : spec.pieces)
    if (piece.text == std::string_view("\0", 1)) piece.type = PieceType::kUnused;
  check(spec, source);
  // Always the best choice, whatever the file says: other scores are negative.
  if (spec.algorithm == PieceAlgorithm::kUnigram)
    for (Piece& piece : spec.pieces)
      if (piece.type == PieceType::kUserDefined)
        piece.score = static_cast<float>(0.1 * static_cast<double>(piece.text.size() - 1));
  return spec;
}

}  // namespace flagscale::text
