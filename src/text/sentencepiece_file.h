#pragma once
// A SentencePiece .model file as it stands: a protobuf of pieces and of how text is prepared for them.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flagscale::text {

inline constexpr std::string_view kSpaceSymbol = "\xe2\x96\x81";  // ▁ stands for a space

// Numbers are the file's.
enum class PieceType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};
enum class PieceAlgorithm : uint8_t { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };

struct Piece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

struct SentencePieceSpec {
  std::vector<Piece> pieces;  // by id; texts are UTF-8, not empty, all different
  PieceAlgorithm algorithm = PieceAlgorithm::kUnigram;
  bool byte_fallback = false;  // then there are 256 byte pieces
  bool space_as_suffix = false;
  std::string unk = "<unk>", bos = "<s>", eos = "</s>", pad = "<pad>";  // pieces, if there are such

  std::string charsmap;  // compiled rules of normalisation, or empty
  bool add_dummy_prefix = true, remove_extra_spaces = true, escape_spaces = true;
  // Not the format's own: where a tokenizer.json wants the prefix.
  bool prefix_unless_space = false, prefix_once = false;
};

// Errors: kCorrupt naming `source` and what is wrong.
SentencePieceSpec read_sentencepiece(std::string_view file, const std::string& source);

// The byte of a piece like <0x0A>; -1 if it is not one.
int byte_of_piece(std::string_view text);

}  // namespace flagscale::text
