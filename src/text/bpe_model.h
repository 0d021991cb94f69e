#pragma once
// Byte-level BPE: what a file says, and the merging of one word.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/merge_table.h"
#include "text/pre_tokenizer.h"
#include "text/token_table.h"

namespace flagscale::text {

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
  // LLaMA-2's kind, which SentencePiece's encoder runs: characters merge, ▁ is a space, tokens are not in
  // GPT-2's alphabet, bytes (<0x0A>) stand for characters that are no token.
  bool characters = false;
  bool prefix_always = false;  // prefix_space: even where there is a space
  bool prefix_once = false;    // prefix_space: at the start of the text alone, not behind added tokens
  std::vector<int32_t> before, after;  // what the post-processor puts around a text
};

// Adds a merge of the next rank. False if the vocabulary lacks one of the two or what they make.
bool append_merge(BpeSpec& spec, std::string_view left, std::string_view right);

// Merges words. Immutable: any thread may call it.
class BpeModel {
 public:
  explicit BpeModel(BpeSpec spec);
  explicit BpeModel(ImageReader& image);  // what put() wrote
  void put(ImageWriter& image) const;
  const BpeSpec& spec() const { return spec_; }

  using Scratch = MergeTable::Scratch;
  // The ids of a word that is not empty; valid until the next call with this scratch.
  const std::vector<int32_t>& merge(std::string_view word, Scratch& scratch) const;

 private:
  void mark_tokens();

  BpeSpec spec_;
  std::array<int32_t, 256> byte_id_;  // -1: the vocabulary lacks the byte, which is then left out
  MergeTable merges_;
  // With ignore_merges, a bit for the hash of each token's bytes: few other words look for themselves.
  SharedArray<uint64_t> marks_;
};

}  // namespace flagscale::text
