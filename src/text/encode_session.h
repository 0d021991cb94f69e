#pragma once
// What the encoders that cut text into words share: their memory between calls, their output, and the loop
// that asks the word cache.

#include <algorithm>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "text/word_cache.h"

namespace flagscale::text {

// What one encode() works with; kept between calls for its warm cache.
template <class Session>
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
class IdOutput {
 public:
  explicit IdOutput(std::vector<int32_t>& ids) : ids_(ids), start_(ids.size()), used_(ids.size()) {}
  ~IdOutput() { ids_.resize(used_); }
  IdOutput(const IdOutput&) = delete;
  IdOutput& operator=(const IdOutput&) = delete;
  void add(int32_t id) { *room(1) = id, ++used_; }
  void add(const std::vector<int32_t>& ids) {
    std::copy(ids.begin(), ids.end(), room(ids.size()));
    used_ += ids.size();
  }
  void add(const WordCache::Entry& entry) {
    std::memcpy(room(WordCache::kMostIds), entry.ids, sizeof entry.ids);
    used_ += entry.count;
  }

 private:
  int32_t* room(size_t count) {
    if (ids_.size() - used_ < count) ids_.resize(used_ + std::max(count + 256, used_ - start_));
    return ids_.data() + used_;
  }
  std::vector<int32_t>& ids_;
  size_t start_, used_;
};

// A word, and the place in the cache that it will have; set is null for one that is too long.
struct CachedWord {
  std::string_view text;
  WordCache::Key key;
  WordCache::Entry* set = nullptr;

  // Keeps what the word became; nullptr if the cache does not hold as much.
  WordCache::Entry* keep(const std::vector<int32_t>& ids) const {
    if (!set || ids.size() > WordCache::kMostIds) return nullptr;
    WordCache::Entry& entry = WordCache::renew(set);
    std::copy(key.word, key.word + 3, entry.key);
    entry.size = static_cast<uint16_t>(text.size());
    entry.count = static_cast<uint16_t>(ids.size());
    std::copy(ids.begin(), ids.end(), entry.ids);
    return &entry;
  }
};

// Calls known(entry) or, where the cache has none or known() says false, fresh(word) for each word, in order.
// scan(text, word) calls word(begin, end) for each; eight words wait for their place in the cache to arrive
// from memory.
template <class Scan, class Known, class Fresh>
void each_word_cached(WordCache& cache, std::string_view text, Scan&& scan, Known&& known, Fresh&& fresh) {
  constexpr size_t kAhead = 8;
  CachedWord waiting[kAhead];
  size_t seen = 0, done = 0;
  const char* end = text.data() + text.size();
  const auto finish = [&](const CachedWord& word) {
    const WordCache::Entry* entry =
        word.set ? WordCache::find(word.set, word.key, word.text.size()) : nullptr;
    if (!entry || !known(*entry)) fresh(word);
  };
  scan(text, [&](const char* begin, const char* stop) {
    if (seen - done == kAhead) finish(waiting[done++ % kAhead]);
    CachedWord& word = waiting[seen++ % kAhead];
    word.text = {begin, static_cast<size_t>(stop - begin)};
    word.set = nullptr;
    if (word.text.size() > WordCache::kMostBytes) return;
    word.key = WordCache::key(begin, word.text.size(), static_cast<size_t>(end - begin));
    word.set = cache.set(word.key, word.text.size());
    __builtin_prefetch(word.set);
  });
  while (done < seen) finish(waiting[done++ % kAhead]);
}

}  // namespace flagscale::text
