#pragma once
// Pairs that become one symbol, and the merging of one word by them: what byte-level BPE and SentencePiece's
// BPE have in common.

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/image.h"

namespace flagscale::text {

struct BpeMerge {
  int32_t left, right;
  int32_t rank;  // the lowest merges first; equal ranks: the leftmost pair first
  int32_t result;
};

// Immutable: any thread may call it.
class MergeTable {
 public:
  MergeTable() : MergeTable(std::vector<BpeMerge>()) {}
  explicit MergeTable(const std::vector<BpeMerge>& merges);  // of a pair named twice the last counts
  explicit MergeTable(ImageReader& image);                   // what put() wrote
  void put(ImageWriter& image) const;

  struct Scratch {  // a caller's own memory
    struct Symbol {
      int32_t id, previous, next;
    };
    struct Candidate {
      int32_t rank, position, result;
      bool operator>(const Candidate& other) const {
        return rank != other.rank ? rank > other.rank : position > other.position;
      }
    };
    std::vector<int32_t> ids;
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
    // If set: the pair that was last a candidate for each result.
    std::unordered_map<int32_t, std::pair<int32_t, int32_t>>* parts = nullptr;
  };
  // Merges scratch.ids, the symbols of a word, in place.
  void merge(Scratch& scratch) const;

 private:
  struct Pair {
    uint64_t key;
    int32_t rank, result;
  };
  void set_shifts();
  const Pair* find(int32_t left, int32_t right) const;
  void merge_short(Scratch& scratch) const;
  void merge_long(Scratch& scratch) const;
  void push_candidate(Scratch& scratch, int32_t left) const;

  SharedArray<Pair> pairs_;      // hash table
  SharedArray<uint64_t> maybe_;  // a bit for each pair's hash: most look-ups end in it, and caches hold it
  int shift_ = 0, maybe_shift_ = 0;
};

}  // namespace flagscale::text
