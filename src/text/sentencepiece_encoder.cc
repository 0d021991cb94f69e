#include "text/sentencepiece_encoder.h"

#include <algorithm>
#include <unordered_map>

#include "text/piece_model.h"
#include "text/sentencepiece_file.h"
#include "text/sentencepiece_normalizer.h"
#include "text/token_table.h"
#include "text/unicode.h"

namespace flagscale::text {
namespace {

std::string with_spaces(std::string_view piece) {
  std::string text;
  for (size_t at = 0; at < piece.size();) {
    if (piece.substr(at).starts_with(kSpaceSymbol)) {
      text += ' ';
      at += kSpaceSymbol.size();
    } else {
      text += piece[at++];
    }
  }
  return text;
}

struct Session {
  PieceModel::Session pieces;
  std::string normalized;
};

class SentencePieceEncoder : public Encoder {
 public:
  SentencePieceEncoder(SentencePieceSpec spec, const std::vector<BpeMerge>& merges,
                       const std::vector<AddedToken>& added, const std::string& source)
      : normalizer_(spec, source), drops_first_space_(spec.add_dummy_prefix || spec.remove_extra_spaces) {
    TokenTable::Builder builder;
    std::vector<AddedToken> cut;
    for (size_t id = 0; id < spec.pieces.size(); ++id) {
      const Piece& piece = spec.pieces[id];
      builder.add(id, piece.text, source);
      types_.push_back(piece.type);
      if (piece.type == PieceType::kControl) cut.push_back({static_cast<int32_t>(id), piece.text, true});
    }
    tokens_ = builder.build();
    for (const AddedToken& token : added)
      if (!is(token.id, PieceType::kControl)) cut.push_back(token);
    set_added(std::move(cut));
    for (Piece& piece : spec.pieces)
      if (!normalizer_.to_inner(piece.text)) piece.text.clear();
    model_ = std::make_unique<PieceModel>(spec, merges, source);
  }

  explicit SentencePieceEncoder(ImageReader& image)
      : tokens_(image), types_(image.copy<PieceType>()), normalizer_(image) {
    model_ = std::make_unique<PieceModel>(image);
    set_added(take_added_tokens(image));
    before_ = image.copy<int32_t>();
    after_ = image.copy<int32_t>();
    image.flags({&drops_first_space_});
  }
  bool put(ImageWriter& image) const override {
    tokens_.put(image);
    image.array(std::span(types_));
    normalizer_.put(image);
    model_->put(image);
    std::vector<AddedToken> added;
    for (const auto& [id, token] : added_) added.push_back(token);
    text::put(image, added);
    image.array(std::span(before_));
    image.array(std::span(after_));
    image.flags({drops_first_space_});
    return true;
  }

  void put_around(std::vector<int32_t> before, std::vector<int32_t> after) {
    before_ = std::move(before);
    after_ = std::move(after);
  }

  int32_t control(std::string_view piece) const {  // -1: no such
    const auto id = tokens_.find(piece);
    return id && is(*id, PieceType::kControl) ? *id : -1;
  }

  void encode(std::string_view text, bool add_special, std::vector<int32_t>& ids) const override {
    auto session = sessions_.take();
    {
      IdOutput out(ids);
      if (add_special) out.add(before_);
      cutter_.split(
          text,
          [&](std::string_view part) {
            const bool at_start = part.data() == text.data();
            model_->encode(normalizer_.normalize(part, at_start, session->normalized), session->pieces, out);
          },
          [&](int32_t id) { out.add(id); });
      if (add_special) out.add(after_);
    }
    sessions_.give_back(std::move(session));
  }

  std::string decode(std::span<const int32_t> ids, bool skip_special) const override {
    std::string bytes;
    for (const int32_t id : ids) bytes += *token_bytes(id, skip_special);
    if (drops_first_space_ && bytes.starts_with(' ')) bytes.erase(0, 1);
    return utf8_lossy(bytes);
  }

  std::optional<std::string> token_bytes(int32_t id, bool skip_special) const override {
    if (const auto added = added_.find(id); added != added_.end())
      return skip_special && added->second.special ? std::string() : added->second.content;
    if (is(id, PieceType::kByte)) return std::string(1, static_cast<char>(byte_of_piece(tokens_.text(id))));
    return is(id, PieceType::kUnknown) && skip_special ? std::string() : with_spaces(tokens_.text(id));
  }
  bool drops_first_space() const override { return drops_first_space_; }

  int32_t vocab_size() const override { return vocab_size_; }
  std::string id_to_token(int32_t id) const override {
    if (const auto added = added_.find(id); added != added_.end()) return added->second.content;
    return std::string(tokens_.text(id));
  }
  std::optional<int32_t> token_to_id(std::string_view token) const override {
    for (const auto& [id, added] : added_)
      if (added.content == token) return id;
    return tokens_.find(token);
  }
  bool is_special(int32_t id) const override {
    if (const auto added = added_.find(id); added != added_.end()) return added->second.special;
    return is(id, PieceType::kUnknown);
  }
  const char* kind() const override { return "sentencepiece"; }

 private:
  void set_added(std::vector<AddedToken> tokens) {
    vocab_size_ = tokens_.size();
    for (const AddedToken& token : tokens) {
      vocab_size_ = std::max(vocab_size_, token.id + 1);
      added_[token.id] = token;
    }
    cutter_ = AddedTokenMatcher(std::move(tokens));
  }
  bool is(int32_t id, PieceType type) const {
    return id >= 0 && static_cast<size_t>(id) < types_.size() && types_[static_cast<size_t>(id)] == type;
  }

  TokenTable tokens_;
  std::vector<PieceType> types_;  // by id
  SentencePieceNormalizer normalizer_;
  std::unique_ptr<const PieceModel> model_;
  std::unordered_map<int32_t, AddedToken> added_;
  AddedTokenMatcher cutter_;
  std::vector<int32_t> before_, after_;
  int32_t vocab_size_ = 0;
  bool drops_first_space_ = false;
  mutable Sessions<Session> sessions_;
};

}  // namespace

SentencePieceModel make_sentencepiece(std::string_view proto, const SentencePieceOptions& options,
                                      const std::string& source) {
  SentencePieceSpec spec = read_sentencepiece(proto, source);
  SentencePieceModel result{nullptr, -1, -1, -1, -1};
  for (size_t id = 0; id < spec.pieces.size(); ++id)
    if (spec.pieces[id].type == PieceType::kUnknown) result.unk = static_cast<int32_t>(id);
  const std::string bos = spec.bos, eos = spec.eos, pad = spec.pad;
  auto encoder =
      std::make_unique<SentencePieceEncoder>(std::move(spec), std::vector<BpeMerge>(), options.added, source);
  result.bos = encoder->control(bos);
  result.eos = encoder->control(eos);
  result.pad = encoder->control(pad);
  const auto ids = [](bool wanted, int32_t id) {
    return std::vector<int32_t>(wanted && id >= 0 ? 1 : 0, id);
  };
  encoder->put_around(ids(options.add_bos, result.bos), ids(options.add_eos, result.eos));
  result.encoder = std::move(encoder);
  return result;
}

std::unique_ptr<const Encoder> make_sentencepiece(ImageReader& image) {
  return std::make_unique<SentencePieceEncoder>(image);
}

std::unique_ptr<const Encoder> make_character_bpe(BpeSpec spec, const std::string& source) {
  SentencePieceSpec pieces;
  pieces.algorithm = PieceAlgorithm::kBpe;
  pieces.byte_fallback = true;
  pieces.add_dummy_prefix = spec.prefix_space;
  pieces.prefix_unless_space = !spec.prefix_always;
  pieces.prefix_once = spec.prefix_once;
  pieces.remove_extra_spaces = false;
  for (int32_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string text(spec.tokens.text(id));
    pieces.pieces.push_back({text, 0, byte_of_piece(text) < 0 ? PieceType::kNormal : PieceType::kByte});
  }
  auto encoder = std::make_unique<SentencePieceEncoder>(std::move(pieces), spec.merges, spec.added, source);
  encoder->put_around(std::move(spec.before), std::move(spec.after));
  return encoder;
}

}  // namespace flagscale::text
