#include "text/sentencepiece_encoder.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <unordered_map>

#include "base/error.h"
#include "text/unicode.h"

namespace flagscale::text {
namespace {

constexpr std::string_view kSpace = "\xe2\x96\x81";  // ▁ stands for a space

void check(const sentencepiece::util::Status& status, const std::string& source) {
  if (!status.ok()) fail(ErrorKind::kCorrupt, "{}: SentencePiece: {}", source, status.ToString());
}

std::string with_spaces(std::string_view piece) {
  std::string text;
  for (size_t at = 0; at < piece.size();) {
    if (piece.substr(at).starts_with(kSpace)) {
      text += ' ';
      at += kSpace.size();
    } else {
      text += piece[at++];
    }
  }
  return text;
}

class SentencePieceEncoder : public Encoder {
 public:
  SentencePieceEncoder(std::string_view proto, const SentencePieceOptions& options, const std::string& source)
      : source_(source) {
    check(model_.LoadFromSerializedProto(absl::string_view(proto.data(), proto.size())), source);
    std::vector<AddedToken> cut;
    for (int id = 0; id < model_.GetPieceSize(); ++id)
      if (model_.IsControl(id)) cut.push_back({id, model_.IdToPiece(id), true});
    vocab_size_ = model_.GetPieceSize();
    for (const AddedToken& token : options.added) {
      if (token.id < model_.GetPieceSize() && model_.IsControl(token.id)) continue;
      cut.push_back(token);
      vocab_size_ = std::max(vocab_size_, token.id + 1);
    }
    for (const AddedToken& token : cut) added_[token.id] = token;
    cutter_ = AddedTokenMatcher(std::move(cut));
    if (options.add_bos && model_.bos_id() >= 0) before_ = model_.bos_id();
    if (options.add_eos && model_.eos_id() >= 0) after_ = model_.eos_id();
    const auto pieces = model_.EncodeAsPieces("a");
    dummy_prefix_ = !pieces.empty() && std::string_view(pieces[0]).starts_with(kSpace);
  }

  const sentencepiece::SentencePieceProcessor& model() const { return model_; }

  void encode(std::string_view text, bool add_special, std::vector<int32_t>& ids) const override {
    if (add_special && before_ >= 0) ids.push_back(before_);
    cutter_.split(
        text,
        [&](std::string_view piece) {
          std::vector<int> found;
          const auto status = model_.Encode(absl::string_view(piece.data(), piece.size()), &found);
          if (!status.ok()) fail(ErrorKind::kInvalidArgument, "{}: {}", source_, status.ToString());
          ids.insert(ids.end(), found.begin(), found.end());
        },
        [&](int32_t id) { ids.push_back(id); });
    if (add_special && after_ >= 0) ids.push_back(after_);
  }

  std::string decode(std::span<const int32_t> ids, bool skip_special) const override {
    std::string bytes;
    for (const int32_t id : ids) bytes += *token_bytes(id, skip_special);
    if (dummy_prefix_ && bytes.starts_with(' ')) bytes.erase(0, 1);
    return utf8_lossy(bytes);
  }

  std::optional<std::string> token_bytes(int32_t id, bool skip_special) const override {
    if (const auto added = added_.find(id); added != added_.end())
      return skip_special && added->second.special ? std::string() : added->second.content;
    if (id < 0 || id >= model_.GetPieceSize()) return std::string();
    const std::string& piece = model_.IdToPiece(id);
    if (model_.IsByte(id) && piece.size() == 6)  // <0x0A>
      return std::string(1, static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16)));
    return model_.IsUnknown(id) && skip_special ? std::string() : with_spaces(piece);
  }
  bool drops_first_space() const override { return dummy_prefix_; }

  int32_t vocab_size() const override { return vocab_size_; }
  std::string id_to_token(int32_t id) const override {
    if (const auto added = added_.find(id); added != added_.end()) return added->second.content;
    return id >= 0 && id < model_.GetPieceSize() ? model_.IdToPiece(id) : "";
  }
  std::optional<int32_t> token_to_id(std::string_view token) const override {
    for (const auto& [id, added] : added_)
      if (added.content == token) return id;
    const int id = model_.PieceToId(absl::string_view(token.data(), token.size()));
    if (id == model_.unk_id() && model_.IdToPiece(id) != token) return std::nullopt;
    return id;
  }
  bool is_special(int32_t id) const override {
    if (const auto added = added_.find(id); added != added_.end()) return added->second.special;
    return id >= 0 && id < model_.GetPieceSize() && model_.IsUnknown(id);
  }
  const char* kind() const override { return "sentencepiece"; }

 private:
  std::string source_;
  sentencepiece::SentencePieceProcessor model_;
  std::unordered_map<int32_t, AddedToken> added_;
  AddedTokenMatcher cutter_;
  int32_t before_ = -1, after_ = -1, vocab_size_ = 0;
  bool dummy_prefix_ = false;
};

}  // namespace

SentencePieceModel make_sentencepiece(std::string_view proto, const SentencePieceOptions& options,
                                      const std::string& source) {
  auto encoder = std::make_unique<SentencePieceEncoder>(proto, options, source);
  const auto& model = encoder->model();
  SentencePieceModel result{nullptr, model.bos_id(), model.eos_id(), model.pad_id(), model.unk_id()};
  result.encoder = std::move(encoder);
  return result;
}

}  // namespace flagscale::text
