#include "text/bpe_encoder.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "text/byte_alphabet.h"
#include "text/normalize.h"
#include "text/scanners.h"
#include "text/unicode.h"
#include "text/word_cache.h"

namespace flagscale::text {
namespace {

// What one encode() works with; kept between calls for its warm cache.
struct Session {
  WordCache cache;
  BpeModel::Scratch scratch;
  std::string normalized, prefixed;
};

class Sessions {
 public:
  std::unique_ptr<Session> take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<Session>();
    auto session = std::move(idle_.back());
    idle_.pop_back();
    return session;
  }
  void give_back(std::unique_ptr<Session> session) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(session));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Session>> idle_;
};

// Appends to a vector in steps, so that a word costs no call.
class Output {
 public:
  explicit Output(std::vector<int32_t>& ids) : ids_(ids), start_(ids.size()), used_(ids.size()) {}
  ~Output() { ids_.resize(used_); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  int32_t* room(size_t count) {
    if (ids_.size() - used_ < count) ids_.resize(used_ + std::max(count + 256, used_ - start_));
    return ids_.data() + used_;
  }
  void used(size_t count) { used_ += count; }
  void add(int32_t id) { *room(1) = id, used(1); }

 private:
  std::vector<int32_t>& ids_;
  size_t start_, used_;
};

class BpeEncoder : public Encoder {
 public:
  explicit BpeEncoder(BpeSpec spec) : model_(std::move(spec)) {
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
      Output out(ids);
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

 private:
  std::string_view token_text(int32_t id) const {
    const auto added = added_by_id_.find(id);
    return added != added_by_id_.end() ? std::string_view(added->second->content)
                                       : model_.spec().tokens.text(id);
  }

  // A word that waits for its place in the cache to arrive from memory.
  struct Pending {
    const char* begin;
    size_t size;
    WordCache::Key key;
    WordCache::Entry* set;
  };

  void encode_words(std::string_view text, Session& session, Output& out) const {
    if (model_.spec().prefix_space && !text.starts_with(' ')) {
      session.prefixed.assign(1, ' ').append(text);
      text = session.prefixed;
    }
    constexpr size_t kAhead = 8;
    Pending waiting[kAhead];
    size_t seen = 0, done = 0;
    const char* end = text.data() + text.size();
    for_each_word(model_.spec().pre, text, [&](const char* begin, const char* stop) {
      if (seen - done == kAhead) encode_word(waiting[done++ % kAhead], session, out);
      Pending& word = waiting[seen++ % kAhead];
      word.begin = begin;
      word.size = static_cast<size_t>(stop - begin);
      if (word.size > WordCache::kMostBytes) return;
      word.key = WordCache::key(begin, word.size, static_cast<size_t>(end - begin));
      word.set = session.cache.set(word.key, word.size);
      __builtin_prefetch(word.set);
    });
    while (done < seen) encode_word(waiting[done++ % kAhead], session, out);
  }

  void encode_word(const Pending& word, Session& session, Output& out) const {
    if (word.size > WordCache::kMostBytes) {
      merge({word.begin, word.size}, session, out);
    } else if (const WordCache::Entry* entry = WordCache::find(word.set, word.key, word.size)) {
      std::memcpy(out.room(WordCache::kMostIds), entry->ids, sizeof entry->ids);
      out.used(entry->count);
    } else {
      merge({word.begin, word.size}, session, out);
      keep(word, session.scratch.ids);
    }
  }

  void merge(std::string_view word, Session& session, Output& out) const {
    const std::vector<int32_t>& ids = model_.merge(word, session.scratch);
    std::copy(ids.begin(), ids.end(), out.room(ids.size()));
    out.used(ids.size());
  }

  static void keep(const Pending& word, const std::vector<int32_t>& ids) {
    if (ids.size() > WordCache::kMostIds) return;
    WordCache::Entry& entry = WordCache::renew(word.set);
    std::copy(word.key.word, word.key.word + 3, entry.key);
    entry.size = static_cast<uint32_t>(word.size);
    entry.count = static_cast<uint32_t>(ids.size());
    std::copy(ids.begin(), ids.end(), entry.ids);
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
  mutable Sessions sessions_;
};

}  // namespace

std::unique_ptr<const Encoder> make_bpe_encoder(BpeSpec spec) {
  return std::make_unique<BpeEncoder>(std::move(spec));
}

}  // namespace flagscale::text
