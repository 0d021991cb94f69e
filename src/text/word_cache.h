#pragma once
// What a word became the last time: a table with two places for each hash, a cache line an entry, for words
// of up to 24 bytes and 8 ids. Text of any language repeats most of its words.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace flagscale::text {

class WordCache {
 public:
  static constexpr size_t kMostBytes = 24, kMostIds = 8;

  struct alignas(64) Entry {
    uint64_t key[3] = {};
    uint16_t size = 0;  // bytes of the word; 0: empty
    uint16_t count = 0;
    float margin = 0;  // the encoder's own
    int32_t ids[kMostIds] = {};
  };
  struct Key {
    uint64_t word[3];
  };

  // Zeros from the system: what no word needs is never touched.
  WordCache() : memory_(std::calloc((size_t{2} << kBits) + 1, sizeof(Entry))) {
    if (!memory_) throw std::bad_alloc();
    size_t room = ((size_t{2} << kBits) + 1) * sizeof(Entry);
    void* aligned = memory_.get();
    entries_ = static_cast<Entry*>(std::align(alignof(Entry), sizeof(Entry) << kBits << 1, aligned, room));
  }

  // size <= kMostBytes. readable: bytes from p that may be read, at least size.
  static Key key(const char* p, size_t size, size_t readable) {
    Key key{};
    if (readable >= kMostBytes) {
      std::memcpy(key.word, p, kMostBytes);
      key.word[0] &= mask(size);
      key.word[1] &= mask(size > 8 ? size - 8 : 0);
      key.word[2] &= mask(size > 16 ? size - 16 : 0);
    } else {
      std::memcpy(key.word, p, size);
    }
    return key;
  }
  // The two places where the word may be.
  Entry* set(const Key& key, size_t size) {
    uint64_t hash = (key.word[0] ^ size) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ hash >> 32 ^ key.word[1]) * 0xff51afd7ed558ccdu;
    hash = (hash ^ hash >> 32 ^ key.word[2]) * 0xc4ceb9fe1a85ec53u;
    return &entries_[hash >> (64 - kBits) << 1];
  }
  static const Entry* find(const Entry* set, const Key& key, size_t size) {
    if (holds(set[0], key, size)) return &set[0];
    return holds(set[1], key, size) ? &set[1] : nullptr;
  }
  // A place for a new word: the older of the two makes room.
  static Entry& renew(Entry* set) {
    set[1] = set[0];
    return set[0];
  }

 private:
  static bool holds(const Entry& entry, const Key& key, size_t size) {
    return ((entry.key[0] ^ key.word[0]) | (entry.key[1] ^ key.word[1]) | (entry.key[2] ^ key.word[2]) |
            (entry.size ^ size)) == 0;
  }
  static constexpr int kBits = 16;  // 8 MB
  static uint64_t mask(size_t bytes) { return bytes >= 8 ? ~uint64_t{0} : (uint64_t{1} << bytes * 8) - 1; }

  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
  Entry* entries_;
};

}  // namespace flagscale::text
