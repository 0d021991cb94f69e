#pragma once
// Byte-level BPE: what a file says, and the merging of one word.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/pre_tokenizer.h"
#include "text/token_table.h"

namespace flagscale::text {

struct BpeMerge {
  int32_t left, right;
  int32_t rank;  // the lowest merges first; equal ranks: the leftmost pair first
  int32_t result;
};

// A tokenizer.json, vocab.json + merges.txt, rank file or GGUF vocabulary, with texts in GPT-2's alphabet.
struct BpeSpec {
  TokenTable tokens;  // the model's; added ones that it lacks are only in `added`
  std::vector<BpeMerge> merges;
  std::vector<AddedToken> added;
  PreTokenizer pre = PreTokenizer::kGpt2;
  std::vector<PreTokenizerStep> other_steps;  // instead of `pre`, for a file that the crate shall read
  bool prefix_space = false;                  // a piece that does not start with a space gets one
  bool nfc = false;                           // normalised first
  bool ignore_merges = false;                 // a word that is a token is taken as it is
  std::vector<int32_t> before, after;         // what the post-processor puts around a text
};

// Adds a merge of the next rank. False if the vocabulary lacks one of the two or what they make.
bool append_merge(BpeSpec& spec, std::string_view left, std::string_view right);

// Merges words. Immutable: any thread may call it.
class BpeModel {
 public:
  explicit BpeModel(BpeSpec spec);
  const BpeSpec& spec() const { return spec_; }

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
    std::vector<int32_t> ids, ranks;
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };
  // The ids of a word that is not empty; valid until the next call with this scratch.
  const std::vector<int32_t>& merge(std::string_view word, Scratch& scratch) const;

 private:
  struct Pair {
    uint64_t key;
    int32_t rank, result;
  };
  const Pair* find(int32_t left, int32_t right) const;
  void merge_short(Scratch& scratch) const;
  void merge_long(Scratch& scratch) const;
  void push_candidate(Scratch& scratch, int32_t left) const;

  BpeSpec spec_;
  std::array<int32_t, 256> byte_id_;  // -1: the vocabulary lacks the byte, which is then left out
  std::vector<Pair> pairs_;           // hash table
  std::vector<uint64_t> maybe_;  // a bit for each pair's hash: most look-ups end in it, and caches hold it
  int shift_ = 0, maybe_shift_ = 0;
};

}  // namespace flagscale::text
