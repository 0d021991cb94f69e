#include "text/merge_table.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

namespace flagscale::text {
namespace {

constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();
constexpr uint64_t kNoKey = ~uint64_t{0};  // ids are not negative
constexpr size_t kShortWord = 32;          // where a scan over all pairs and a heap cost the same

uint64_t key_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

int shift_for(size_t places) { return 64 - std::countr_zero(places); }  // of a hash to a power of two of them

uint64_t spread(uint64_t key) { return (key ^ key >> 29) * 0x9e3779b97f4a7c15u; }

}  // namespace

MergeTable::MergeTable(const std::vector<BpeMerge>& merges) {
  const size_t slots = std::bit_ceil(merges.size() * 3 / 2 + 2);
  const size_t bits = std::bit_ceil(merges.size() * 16 + 64);
  std::vector<Pair> pairs(slots, {kNoKey, kNoRank, -1});
  std::vector<uint64_t> maybe(bits / 64, 0);
  const int shift = shift_for(slots), maybe_shift = shift_for(bits);
  for (const BpeMerge& merge : merges) {
    const uint64_t key = key_of(merge.left, merge.right), hash = spread(key);
    const uint64_t bit = hash >> maybe_shift;
    maybe[bit / 64] |= uint64_t{1} << bit % 64;
    size_t at = hash >> shift;
    while (pairs[at].key != kNoKey && pairs[at].key != key) at = (at + 1) & (slots - 1);
    pairs[at] = {key, merge.rank, merge.result};
  }
  pairs_ = std::move(pairs);
  maybe_ = std::move(maybe);
  set_shifts();
}

MergeTable::MergeTable(ImageReader& image) : pairs_(image.array<Pair>()), maybe_(image.array<uint64_t>()) {
  set_shifts();
}

void MergeTable::put(ImageWriter& image) const {
  image.array(pairs_.span());
  image.array(maybe_.span());
}

void MergeTable::set_shifts() {
  shift_ = shift_for(pairs_.size());
  maybe_shift_ = shift_for(maybe_.size() * 64);
}

const MergeTable::Pair* MergeTable::find(int32_t left, int32_t right) const {
  const uint64_t key = key_of(left, right), hash = spread(key);
  const uint64_t bit = hash >> maybe_shift_;
  if (!(maybe_[bit / 64] >> bit % 64 & 1)) return nullptr;
  const size_t mask = pairs_.size() - 1;
  for (size_t at = hash >> shift_;; at = (at + 1) & mask) {
    if (pairs_[at].key == key) return &pairs_[at];
    if (pairs_[at].key == kNoKey) return nullptr;
  }
}

void MergeTable::merge(Scratch& scratch) const {
  if (scratch.ids.size() <= kShortWord && !scratch.parts)
    merge_short(scratch);
  else
    merge_long(scratch);
}

// Arrays without links: the lowest rank is found by looking at all, and the tail moves up by one.
void MergeTable::merge_short(Scratch& scratch) const {
  int32_t ids[kShortWord], ranks[kShortWord], results[kShortWord];
  size_t count = scratch.ids.size();
  std::copy(scratch.ids.begin(), scratch.ids.end(), ids);
  const auto rate = [&](size_t i) {
    const Pair* pair = find(ids[i], ids[i + 1]);
    ranks[i] = pair ? pair->rank : kNoRank;
    results[i] = pair ? pair->result : -1;
  };
  for (size_t i = 0; i + 1 < count; ++i) rate(i);
  if (count > 0) ranks[count - 1] = kNoRank, results[count - 1] = -1;  // no pair; it moves up with the others
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (ranks[i] < ranks[best]) best = i;
    if (ranks[best] == kNoRank) break;
    ids[best] = results[best];
    for (size_t i = best + 1; i + 1 < count; ++i)
      ids[i] = ids[i + 1], ranks[i] = ranks[i + 1], results[i] = results[i + 1];
    --count;
    if (best > 0) rate(best - 1);
    if (best + 1 < count) rate(best);
  }
  scratch.ids.assign(ids, ids + count);
}

void MergeTable::push_candidate(Scratch& scratch, int32_t left) const {
  const auto& symbols = scratch.symbols;
  if (left < 0 || symbols[static_cast<size_t>(left)].next < 0) return;
  const auto& first = symbols[static_cast<size_t>(left)];
  const Pair* pair = find(first.id, symbols[static_cast<size_t>(first.next)].id);
  if (!pair) return;
  if (scratch.parts) (*scratch.parts)[pair->result] = {first.id, symbols[static_cast<size_t>(first.next)].id};
  scratch.heap.push_back({pair->rank, left, pair->result});
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), std::greater<>());
}

// A linked list and a heap of pairs that may be out of date: O(n log n) for a word of any length.
void MergeTable::merge_long(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  const auto count = static_cast<int32_t>(scratch.ids.size());
  symbols.resize(scratch.ids.size());
  scratch.heap.clear();
  for (int32_t i = 0; i < count; ++i)
    symbols[static_cast<size_t>(i)] = {scratch.ids[static_cast<size_t>(i)], i - 1,
                                       i + 1 < count ? i + 1 : -1};
  for (int32_t i = 0; i + 1 < count; ++i) push_candidate(scratch, i);
  while (!scratch.heap.empty()) {
    std::pop_heap(scratch.heap.begin(), scratch.heap.end(), std::greater<>());
    const Scratch::Candidate top = scratch.heap.back();
    scratch.heap.pop_back();
    auto& left = symbols[static_cast<size_t>(top.position)];
    if (left.id < 0 || left.next < 0) continue;
    auto& right = symbols[static_cast<size_t>(left.next)];
    const Pair* pair = find(left.id, right.id);
    if (!pair || pair->result != top.result || pair->rank != top.rank) continue;
    left.id = top.result;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = top.position;
    push_candidate(scratch, left.previous);
    push_candidate(scratch, top.position);
  }
  scratch.ids.clear();
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next)
    scratch.ids.push_back(symbols[static_cast<size_t>(i)].id);
}

}  // namespace flagscale::text
