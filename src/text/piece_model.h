#pragma once
// How a normalised text is divided into the pieces of a SentencePiece model: merges of characters (BPE) or
// the greatest sum of scores (unigram), part by part between the places that no piece spans.

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/byte_trie.h"
#include "text/encode_session.h"
#include "text/merge_table.h"
#include "text/piece_cuts.h"
#include "text/sentencepiece_file.h"
#include "text/unigram_model.h"

namespace flagscale::text {

// Immutable: any thread may call it.
class PieceModel {
 public:
  // spec.pieces: as normalised texts hold them (SentencePieceNormalizer::to_inner()); "" for those that no
  // text holds. merges: BPE's, where scores do not tell them. Errors: kUnsupported naming `source`.
  PieceModel(const SentencePieceSpec& spec, const std::vector<BpeMerge>& merges, const std::string& source);

  explicit PieceModel(ImageReader& image);  // what put() wrote
  void put(ImageWriter& image) const;

  struct Session {  // a caller's own memory
    WordCache cache;
    MergeTable::Scratch merging;
    std::unordered_map<int32_t, std::pair<int32_t, int32_t>> parts;
    UnigramModel::Scratch unigram;
    std::vector<int32_t> ids;
  };
  // text: normalised.
  void encode(std::string_view text, Session& session, IdOutput& out) const;

 private:
  struct State {  // of a text
    float sum = 0;
    bool after_unknown = false;
  };
  void build_merges(const SentencePieceSpec& spec);
  void build_unigram(const SentencePieceSpec& spec);
  void add_merges(std::string_view piece, int32_t id, int32_t rank, std::vector<BpeMerge>& merges) const;
  int32_t symbol_at(const char* p, uint32_t size) const;
  void encode_part(const CachedWord& part, Session& session, State& state) const;
  void merge_part(std::string_view part, Session& session, State& state, bool& unknown) const;
  void put_symbol(int32_t symbol, int depth, Session& session, State& state, bool& unknown) const;
  void put_unknown(std::string_view text, Session& session, State& state) const;

  bool unigram_ = false, escaped_ = false, byte_fallback_ = false;
  bool whole_ = false;  // how a part is divided depends on the text around it
  int32_t unknown_ = -1;
  std::array<int32_t, 256> byte_ids_ = {};
  std::vector<PieceType> types_;  // by id
  PieceCuts cuts_;
  ByteTrie pieces_, user_defined_;
  MergeTable merges_;
  UnigramModel scores_;
};

}  // namespace flagscale::text
