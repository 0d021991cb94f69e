#include "text/bpe_model.h"

#include <bit>
#include <functional>

#include "text/byte_alphabet.h"
#include "text/unicode.h"

namespace flagscale::text {

namespace {

// Which bit of so many words stands for a token's bytes.
size_t mark(std::string_view raw, size_t words) {
  return std::hash<std::string_view>()(raw) & (words * 64 - 1);
}

}  // namespace

bool append_merge(BpeSpec& spec, std::string_view left, std::string_view right) {
  const auto a = spec.tokens.find(left), b = spec.tokens.find(right);
  if (!a || !b) return false;
  // Most files number what they make one after another, which saves a look-up by text.
  int32_t result = spec.merges.empty() ? -1 : spec.merges.back().result + 1;
  const std::string_view guess = spec.tokens.text(result);
  if (guess.empty() || !spec.tokens.one_to_one() || guess.size() != left.size() + right.size() ||
      !guess.starts_with(left) || !guess.ends_with(right)) {
    const auto found = spec.tokens.find(std::string(left).append(right));
    if (!found) return false;
    result = *found;
  }
  spec.merges.push_back({*a, *b, static_cast<int32_t>(spec.merges.size()), result});
  return true;
}

BpeModel::BpeModel(BpeSpec spec) : spec_(std::move(spec)) {
  for (size_t byte = 0; byte < 256; ++byte) {
    std::string character;
    append_utf8(kByteToCode[byte], character);
    byte_id_[byte] = spec_.tokens.find(character).value_or(-1);
  }
  merges_ = MergeTable(spec_.merges);
  spec_.merges = {};
  if (spec_.ignore_merges) mark_tokens();
}

void BpeModel::mark_tokens() {
  // 16 to 32 bits for each.
  std::vector<uint64_t> marks(std::bit_ceil(static_cast<size_t>(spec_.tokens.size()) / 4 + 1));
  for (int32_t id = 0; id < spec_.tokens.size(); ++id)
    if (const auto raw = alphabet_to_bytes(spec_.tokens.text(id))) {
      const size_t bit = mark(*raw, marks.size());
      marks[bit / 64] |= uint64_t{1} << bit % 64;
    }
  marks_ = std::move(marks);
}

BpeModel::BpeModel(ImageReader& image) {
  spec_.pre = static_cast<PreTokenizer>(image.number());
  image.flags({&spec_.prefix_space, &spec_.nfc, &spec_.ignore_merges});
  spec_.before = image.copy<int32_t>();
  spec_.after = image.copy<int32_t>();
  spec_.added = take_added_tokens(image);
  spec_.tokens = TokenTable(image);
  for (int32_t& id : byte_id_) id = static_cast<int32_t>(image.number());
  merges_ = MergeTable(image);
  marks_ = image.array<uint64_t>();
}

void BpeModel::put(ImageWriter& image) const {
  image.number(static_cast<uint64_t>(spec_.pre));
  image.flags({spec_.prefix_space, spec_.nfc, spec_.ignore_merges});
  image.array(std::span(spec_.before));
  image.array(std::span(spec_.after));
  text::put(image, spec_.added);
  spec_.tokens.put(image);
  for (const int32_t id : byte_id_) image.number(static_cast<uint64_t>(id));
  merges_.put(image);
  image.array(marks_.span());
}

const std::vector<int32_t>& BpeModel::merge(std::string_view word, Scratch& scratch) const {
  std::vector<int32_t>& ids = scratch.ids;
  ids.clear();
  for (const char byte : word) {
    const int32_t id = byte_id_[static_cast<unsigned char>(byte)];
    if (id >= 0) ids.push_back(id);
  }
  merges_.merge(scratch);
  if (!spec_.ignore_merges || ids.size() < 2) return ids;
  const size_t bit = mark(word, marks_.size());
  if (marks_[bit / 64] >> bit % 64 & 1)
    if (const auto id = spec_.tokens.find(bytes_to_alphabet(word))) ids.assign(1, *id);
  return ids;
}

}  // namespace flagscale::text
