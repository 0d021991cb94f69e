#include "text/bpe_encoder.h"

#include <algorithm>
#include <unordered_map>

#include "text/byte_alphabet.h"
#include "text/encode_session.h"
#include "text/normalize.h"
#include "text/scanners.h"
#include "text/unicode.h"

namespace flagscale::text {
namespace {

struct Session {
  WordCache cache;
  BpeModel::Scratch scratch;
  std::string normalized, prefixed;
};

class BpeEncoder : public Encoder {
 public:
  explicit BpeEncoder(BpeModel model) : model_(std::move(model)) {
    std::vector<AddedToken> raw, normalized;
    vocab_size_ = model_.spec().tokens.size();
    for (const AddedToken& token : model_.spec().added) {
      vocab_size_ = std::max(vocab_size_, token.id + 1);
      added_by_id_[token.id] = &token;
      added_by_text_[token.content] = token.id;
      (token.normalized ? normalized : raw).push_back(token);
    }
    raw_ = AddedTokenMatcher(std::move(raw));
    normalized_ = AddedTokenMatcher(std::move(normalized));
  }

  void encode(std::string_view text, bool add_special, std::vector<int32_t>& ids) const override {
    auto session = sessions_.take();
    {
      const BpeSpec& spec = model_.spec();
      IdOutput out(ids);
      if (add_special)
        for (const int32_t id : spec.before) out.add(id);
      raw_.split(
          text,
          [&](std::string_view piece) {
            if (spec.nfc) piece = nfc(piece, session->normalized);
            normalized_.split(
                piece, [&](std::string_view part) { encode_words(part, *session, out); },
                [&](int32_t id) { out.add(id); });
          },
          [&](int32_t id) { out.add(id); });
      if (add_special)
        for (const int32_t id : spec.after) out.add(id);
    }
    sessions_.give_back(std::move(session));
  }

  std::string decode(std::span<const int32_t> ids, bool skip_special) const override {
    std::string bytes;
    for (const int32_t id : ids) bytes += *token_bytes(id, skip_special);
    return utf8_lossy(bytes);
  }

  std::optional<std::string> token_bytes(int32_t id, bool skip_special) const override {
    if (skip_special && is_special(id)) return std::string();
    const std::string_view token = token_text(id);
    auto raw = alphabet_to_bytes(token);
    return raw ? std::move(raw) : std::string(token);
  }

  int32_t vocab_size() const override { return vocab_size_; }
  std::string id_to_token(int32_t id) const override { return std::string(token_text(id)); }
  std::optional<int32_t> token_to_id(std::string_view token) const override {
    const auto added = added_by_text_.find(token);
    if (added != added_by_text_.end()) return added->second;
    return model_.spec().tokens.find(token);
  }
  bool is_special(int32_t id) const override {
    const auto added = added_by_id_.find(id);
    return added != added_by_id_.end() && added->second->special;
  }
  const char* kind() const override { return "bpe"; }
  bool put(ImageWriter& image) const override {
    model_.put(image);
    return true;
  }

 private:
  std::string_view token_text(int32_t id) const {
    const auto added = added_by_id_.find(id);
    return added != added_by_id_.end() ? std::string_view(added->second->content)
                                       : model_.spec().tokens.text(id);
  }

  void encode_words(std::string_view text, Session& session, IdOutput& out) const {
    if (model_.spec().prefix_space && !text.starts_with(' ')) {
      session.prefixed.assign(1, ' ').append(text);
      text = session.prefixed;
    }
    each_word_cached(
        session.cache, text,
        [&](std::string_view all, auto&& word) { for_each_word(model_.spec().pre, all, word); },
        [&](const WordCache::Entry& entry) {
          out.add(entry);
          return true;
        },
        [&](const CachedWord& word) {
          const std::vector<int32_t>& found = model_.merge(word.text, session.scratch);
          out.add(found);
          word.keep(found);
        });
  }

  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  BpeModel model_;
  AddedTokenMatcher raw_, normalized_;
  std::unordered_map<int32_t, const AddedToken*> added_by_id_;
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> added_by_text_;
  int32_t vocab_size_ = 0;
  mutable Sessions<Session> sessions_;
};

}  // namespace

std::unique_ptr<const Encoder> make_bpe_encoder(BpeSpec spec) {
  return make_bpe_encoder(BpeModel(std::move(spec)));
}

std::unique_ptr<const Encoder> make_bpe_encoder(BpeModel model) {
  return std::make_unique<BpeEncoder>(std::move(model));
}

}  // namespace flagscale::text
