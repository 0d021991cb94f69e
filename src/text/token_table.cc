#include "text/token_table.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"

namespace flagscale::text {
namespace {

uint64_t hash_of(std::string_view text) {
  uint64_t hash = text.size() * 0x9e3779b97f4a7c15u;
  const auto mix = [&hash](uint64_t word) {
    hash = (hash ^ word) * 0xff51afd7ed558ccdu;
    hash ^= hash >> 32;
  };
  uint64_t word = 0;
  for (; text.size() >= 8; text.remove_prefix(8)) {
    std::memcpy(&word, text.data(), 8);
    mix(word);
  }
  word = 0;
  for (size_t i = 0; i < text.size(); ++i) word |= uint64_t{static_cast<unsigned char>(text[i])} << i * 8;
  mix(word);
  return hash * 0x9e3779b97f4a7c15u ^ hash;  // the upper half tags a slot, the lower half chooses it
}

}  // namespace

void TokenTable::Builder::add(uint64_t id, std::string_view token, std::string_view file) {
  if (id > kMaxTokenId) fail(ErrorKind::kCorrupt, "{}: token id {} is larger than {}", file, id, kMaxTokenId);
  if (blob_.size() + token.size() >= kAbsent)
    fail(ErrorKind::kCorrupt, "{}: its tokens take 4 GiB or more", file);
  entries_.push_back(
      {static_cast<uint32_t>(id), static_cast<uint32_t>(blob_.size()), static_cast<uint32_t>(token.size())});
  blob_ += token;
}

TokenTable TokenTable::Builder::build() {
  TokenTable table;
  table.blob_ = std::vector<char>(blob_.begin(), blob_.end());
  uint32_t size = 0;
  for (const Entry& entry : entries_) size = std::max(size, entry.id + 1);
  std::vector<Span> spans(size);
  for (const Entry& entry : entries_) {
    Span& span = spans[entry.id];
    table.unique_ = table.unique_ && span.size == kAbsent;
    span = {entry.begin, entry.size};
  }
  table.spans_ = std::move(spans);
  std::vector<Slot> slots(std::bit_ceil(entries_.size() * 3 / 2 + 2));
  for (const Entry& entry : entries_) {
    const std::string_view token = table.text_at({entry.begin, entry.size});
    const uint64_t hash = hash_of(token);
    Slot& place = slots[table.slot(token, hash, slots)];
    table.count_ += place.id < 0;
    place = {static_cast<uint32_t>(hash >> 32), static_cast<int32_t>(entry.id)};
  }
  table.slots_ = std::move(slots);
  table.one_text_each_ = static_cast<size_t>(table.count_) == entries_.size();
  entries_.clear();
  return table;
}

TokenTable::TokenTable(ImageReader& image)
    : blob_(image.array<char>()), spans_(image.array<Span>()), slots_(image.array<Slot>()) {
  count_ = static_cast<int32_t>(image.number());
  unique_ = image.number() != 0;
  one_text_each_ = image.number() != 0;
}

void TokenTable::put(ImageWriter& image) const {
  image.array(blob_.span());
  image.array(spans_.span());
  image.array(slots_.span());
  image.number(static_cast<uint64_t>(count_));
  image.number(unique_);
  image.number(one_text_each_);
}

std::string_view TokenTable::text(int32_t id) const {
  return id < 0 || id >= size() ? std::string_view() : text_at(spans_[static_cast<size_t>(id)]);
}

size_t TokenTable::slot(std::string_view token, uint64_t hash, std::span<const Slot> slots) const {
  const size_t mask = slots.size() - 1;
  const auto tag = static_cast<uint32_t>(hash >> 32);
  size_t at = hash & mask;
  while (slots[at].id >= 0 && (slots[at].hash != tag || text(slots[at].id) != token)) at = (at + 1) & mask;
  return at;
}

std::optional<int32_t> TokenTable::find(std::string_view token) const {
  if (slots_.empty()) return std::nullopt;
  const int32_t id = slots_[slot(token, hash_of(token), slots_.span())].id;
  if (id < 0) return std::nullopt;
  return id;
}

}  // namespace flagscale::text
