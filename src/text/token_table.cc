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
  table.blob_ = std::move(blob_);
  table.slots_.resize(std::bit_ceil(entries_.size() * 3 / 2 + 2));
  uint32_t size = 0;
  for (const Entry& entry : entries_) size = std::max(size, entry.id + 1);
  table.spans_.resize(size);
  for (const Entry& entry : entries_) {
    Span& span = table.spans_[entry.id];
    table.unique_ = table.unique_ && span.size == kAbsent;
    span = {entry.begin, entry.size};
    table.insert(entry.id, std::string_view(table.blob_).substr(entry.begin, entry.size));
  }
  table.one_text_each_ = static_cast<size_t>(table.count_) == entries_.size();
  entries_.clear();
  return table;
}

std::string_view TokenTable::text(int32_t id) const {
  if (id < 0 || id >= size()) return {};
  const Span& span = spans_[static_cast<size_t>(id)];
  return span.size == kAbsent ? std::string_view() : std::string_view(blob_).substr(span.begin, span.size);
}

size_t TokenTable::slot(std::string_view token, uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  const auto tag = static_cast<uint32_t>(hash >> 32);
  size_t at = hash & mask;
  while (slots_[at].id >= 0 && (slots_[at].hash != tag || text(slots_[at].id) != token)) at = (at + 1) & mask;
  return at;
}

void TokenTable::insert(uint32_t id, std::string_view token) {
  const uint64_t hash = hash_of(token);
  Slot& place = slots_[slot(token, hash)];
  count_ += place.id < 0;
  place = {static_cast<uint32_t>(hash >> 32), static_cast<int32_t>(id)};
}

std::optional<int32_t> TokenTable::find(std::string_view token) const {
  if (slots_.empty()) return std::nullopt;
  const int32_t id = slots_[slot(token, hash_of(token))].id;
  if (id < 0) return std::nullopt;
  return id;
}

}  // namespace flagscale::text
