#include "text/token_table.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"

namespace flagscale::text {
namespace {

uint64_t hash_of(std::string_view text) {
  uint64_t hash = text.size() * 0x9e3779b97f4a7c15u;
  while (!text.empty()) {
    uint64_t word = 0;
    const size_t size = std::min<size_t>(8, text.size());
    std::memcpy(&word, text.data(), size);
    hash = (hash ^ word) * 0xff51afd7ed558ccdu;
    hash ^= hash >> 32;
    text.remove_prefix(size);
  }
  return hash;
}

}  // namespace

void TokenTable::Builder::add(uint64_t id, std::string_view token, std::string_view file) {
  if (id > kMaxTokenId) fail(ErrorKind::kCorrupt, "{}: token id {} is larger than {}", file, id, kMaxTokenId);
  entries_.push_back({static_cast<uint32_t>(id), static_cast<uint32_t>(token.size()), blob_.size()});
  blob_ += token;
}

TokenTable TokenTable::Builder::build() {
  TokenTable table;
  table.blob_ = std::move(blob_);
  table.slots_.assign(std::bit_ceil(entries_.size() * 2 + 2), -1);
  uint32_t size = 0;
  for (const Entry& entry : entries_) size = std::max(size, entry.id + 1);
  table.spans_.resize(size);
  for (const Entry& entry : entries_) {
    table.unique_ = table.unique_ && !table.spans_[entry.id].present;
    table.spans_[entry.id] = {entry.begin, entry.size, true};
    table.insert(entry.id, std::string_view(table.blob_).substr(entry.begin, entry.size));
  }
  entries_.clear();
  return table;
}

std::string_view TokenTable::text(int32_t id) const {
  if (id < 0 || id >= size()) return {};
  const Span& span = spans_[static_cast<size_t>(id)];
  return std::string_view(blob_).substr(span.begin, span.size);
}

size_t TokenTable::slot(std::string_view token) const {
  const size_t mask = slots_.size() - 1;
  size_t at = hash_of(token) & mask;
  while (slots_[at] >= 0 && text(slots_[at]) != token) at = (at + 1) & mask;
  return at;
}

void TokenTable::insert(uint32_t id, std::string_view token) {
  const size_t at = slot(token);
  count_ += slots_[at] < 0;
  slots_[at] = static_cast<int32_t>(id);
}

std::optional<int32_t> TokenTable::find(std::string_view token) const {
  if (slots_.empty()) return std::nullopt;
  const int32_t id = slots_[slot(token)];
  if (id < 0) return std::nullopt;
  return id;
}

}  // namespace flagscale::text
