#pragma once
// The tokens of a vocabulary: id to text by an array, text to id by a hash table; no string of its own for
// each.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/image.h"

namespace flagscale::text {

// More ids than any model has; a bound on what a file may make us allocate.
inline constexpr uint64_t kMaxTokenId = (uint64_t{1} << 24) - 1;

class TokenTable {
 public:
  class Builder {
   public:
    // Error{kCorrupt} naming `file` for an id past kMaxTokenId, or texts of 4 GiB. A second text for an id
    // replaces the first.
    void add(uint64_t id, std::string_view token, std::string_view file);
    void reserve(size_t tokens) { entries_.reserve(tokens); }
    TokenTable build();

   private:
    struct Entry {
      uint32_t id, begin, size;
    };
    std::string blob_;
    std::vector<Entry> entries_;
  };

  int32_t size() const { return static_cast<int32_t>(spans_.size()); }  // largest id + 1
  int32_t count() const { return count_; }                              // different texts
  bool unique() const { return unique_; }                               // no id had two texts
  bool one_to_one() const { return unique_ && one_text_each_; }         // and no text two ids
  std::string_view text(int32_t id) const;                              // "" where there is none
  std::optional<int32_t> find(std::string_view token) const;

  TokenTable() = default;
  explicit TokenTable(ImageReader& image);  // what put() wrote
  void put(ImageWriter& image) const;

 private:
  static constexpr uint32_t kAbsent = ~uint32_t{0};
  struct Span {
    uint32_t begin = 0, size = kAbsent;
  };
  struct Slot {
    uint32_t hash = 0;  // a text is looked at only where this is equal
    int32_t id = -1;
  };
  size_t slot(std::string_view token, uint64_t hash, std::span<const Slot> slots) const;
  std::string_view text_at(const Span& span) const {
    return span.size == kAbsent ? std::string_view() : std::string_view(&blob_[span.begin], span.size);
  }

  SharedArray<char> blob_;
  SharedArray<Span> spans_;
  SharedArray<Slot> slots_;
  int32_t count_ = 0;
  bool unique_ = true, one_text_each_ = true;
};

}  // namespace flagscale::text
