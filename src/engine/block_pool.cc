#include "engine/block_pool.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace flagscale::engine {

namespace {
uint64_t mix(uint64_t h, uint64_t value) {
  h = (h ^ value) * 0x9E3779B97F4A7C15ull;
  return h ^ (h >> 29);
}
}  // namespace

BlockPool::BlockPool(int32_t pages, int32_t page_tokens)
    : page_tokens_(static_cast<size_t>(page_tokens)),
      entries_(static_cast<size_t>(pages)),
      tokens_(entries_.size() * page_tokens_),
      buckets_(std::bit_ceil(entries_.size() + 1), kNone) {
  for (int32_t page = 0; page < pages; ++page) push_free(page);
}

std::span<int32_t> BlockPool::tokens_of(int32_t page) {
  return {tokens_.data() + static_cast<size_t>(page) * page_tokens_, page_tokens_};
}
std::span<const int32_t> BlockPool::tokens_of(int32_t page) const {
  return {tokens_.data() + static_cast<size_t>(page) * page_tokens_, page_tokens_};
}

int32_t BlockPool::take() {
  const int32_t page = oldest_;
  if (page == kNone) return kNone;
  pop_free(page);
  forget(page);
  entry(page).holders = 1;
  return page;
}

void BlockPool::hold(int32_t page) {
  if (entry(page).holders++ == 0) pop_free(page);
}

void BlockPool::release(int32_t page) {
  FLAGSCALE_CHECK(entry(page).holders > 0);
  if (--entry(page).holders == 0) push_free(page);
}

// What nobody can find again is taken first.
void BlockPool::push_free(int32_t page) {
  Entry& e = entry(page);
  const bool first = e.node == 0;
  e.before = first ? kNone : newest_;
  e.after = first ? oldest_ : kNone;
  (e.before == kNone ? oldest_ : entry(e.before).after) = page;
  (e.after == kNone ? newest_ : entry(e.after).before) = page;
  ++free_count_;
}

void BlockPool::pop_free(int32_t page) {
  Entry& e = entry(page);
  (e.before == kNone ? oldest_ : entry(e.before).after) = e.after;
  (e.after == kNone ? newest_ : entry(e.after).before) = e.before;
  e.before = e.after = kNone;
  --free_count_;
}

void BlockPool::forget(int32_t page) {
  Entry& e = entry(page);
  if (e.node == 0) return;
  int32_t* link = &buckets_[e.bucket];
  while (*link != page) link = &entry(*link).next;
  *link = e.next;
  e.next = kNone;
  e.node = e.parent = 0;
  e.scope.clear();
}

uint32_t BlockPool::bucket_of(uint64_t parent, std::string_view scope,
                              std::span<const int32_t> tokens) const {
  uint64_t h = mix(0x243F6A8885A308D3ull, parent);
  if (parent == 0)
    for (const char c : scope) h = mix(h, static_cast<unsigned char>(c));
  for (const int32_t token : tokens) h = mix(h, static_cast<uint32_t>(token));
  return static_cast<uint32_t>(h >> 32) & static_cast<uint32_t>(buckets_.size() - 1);
}

int32_t BlockPool::find(uint64_t parent, std::string_view scope, std::span<const int32_t> tokens) const {
  for (int32_t page = buckets_[bucket_of(parent, scope, tokens)]; page != kNone; page = entry(page).next) {
    const Entry& e = entry(page);
    if (e.parent == parent && (parent != 0 || e.scope == scope) &&
        std::ranges::equal(tokens_of(page), tokens))
      return page;
  }
  return kNone;
}

int32_t BlockPool::record(int32_t page, uint64_t parent, std::string_view scope,
                          std::span<const int32_t> tokens) {
  Entry& e = entry(page);
  FLAGSCALE_CHECK(e.holders > 0 && e.node == 0 && tokens.size() == page_tokens_);
  const int32_t same = find(parent, scope, tokens);
  if (same != kNone) return same;
  e.node = next_node_++;
  e.parent = parent;
  if (parent == 0) e.scope = scope;
  std::ranges::copy(tokens, tokens_of(page).begin());
  e.bucket = bucket_of(parent, scope, tokens);
  e.next = buckets_[e.bucket];
  buckets_[e.bucket] = page;
  return page;
}

}  // namespace flagscale::engine
