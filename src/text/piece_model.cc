#include "text/piece_model.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/error.h"
#include "text/token_table.h"
#include "text/unicode.h"

namespace flagscale::text {
namespace {

// A character that is no piece is the symbol kCharacter + its code.
constexpr int32_t kCharacter = 1 << 24;
static_assert(kCharacter > static_cast<int32_t>(kMaxTokenId));

bool is_text(PieceType type) { return type == PieceType::kNormal || type == PieceType::kUnused; }

// Floats in order, zeros of both signs apart, as the library compares them.
int32_t ordered(float score) {
  const auto bits = std::bit_cast<int32_t>(score);
  return bits < 0 ? std::numeric_limits<int32_t>::min() - bits : bits;
}

// The merges of the highest scores come first, those of one score together.
std::vector<int32_t> ranks_of(const std::vector<Piece>& pieces) {
  std::vector<int32_t> scores(pieces.size());
  std::transform(pieces.begin(), pieces.end(), scores.begin(),
                 [](const Piece& piece) { return ordered(piece.score); });
  std::vector<int32_t> sorted = scores;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  for (int32_t& score : scores)
    score = static_cast<int32_t>(std::lower_bound(sorted.begin(), sorted.end(), score, std::greater<>()) -
                                 sorted.begin());
  return scores;
}

}  // namespace

PieceModel::PieceModel(const SentencePieceSpec& spec, const std::vector<BpeMerge>& merges,
                       const std::string& source)
    : unigram_(spec.algorithm == PieceAlgorithm::kUnigram),
      escaped_(spec.escape_spaces),
      byte_fallback_(spec.byte_fallback) {
  if (spec.algorithm == PieceAlgorithm::kWord)
    fail(ErrorKind::kUnsupported, "{}: a SentencePiece model of type 'word'; unigram, bpe and char are read",
         source);
  size_t bytes = 0;
  for (const Piece& piece : spec.pieces) bytes += piece.text.size();
  if (bytes >= ByteTrie::kMostNodes)
    fail(ErrorKind::kUnsupported, "{}: its pieces are {} bytes together, more than 16 MB", source, bytes);
  for (size_t id = 0; id < spec.pieces.size(); ++id) {
    const Piece& piece = spec.pieces[id];
    types_.push_back(piece.type);
    if (piece.type == PieceType::kUnknown) unknown_ = static_cast<int32_t>(id);
    if (piece.type == PieceType::kByte)
      byte_ids_[static_cast<size_t>(byte_of_piece(piece.text))] = static_cast<int32_t>(id);
    if (piece.text.empty()) continue;
    // A character that is not used is unknown; a longer piece is taken apart again.
    const bool character = decode_char(piece.text.data()).size == piece.text.size();
    if (piece.type == PieceType::kNormal || (piece.type == PieceType::kUnused && !character))
      pieces_.insert(piece.text, static_cast<int32_t>(id));
    if (piece.type == PieceType::kUserDefined) user_defined_.insert(piece.text, static_cast<int32_t>(id));
    if (is_text(piece.type) || piece.type == PieceType::kUserDefined) cuts_.add(piece.text);
  }
  if (unigram_) build_unigram(spec);
  if (!merges.empty())
    merges_ = MergeTable(merges);
  else if (spec.algorithm == PieceAlgorithm::kBpe)
    build_merges(spec);
}

PieceModel::PieceModel(ImageReader& image) {
  image.flags({&unigram_, &escaped_, &byte_fallback_, &whole_});
  unknown_ = static_cast<int32_t>(image.number());
  for (int32_t& id : byte_ids_) id = static_cast<int32_t>(image.number());
  types_ = image.copy<PieceType>();
  cuts_ = PieceCuts(image);
  pieces_ = ByteTrie(image);
  user_defined_ = ByteTrie(image);
  merges_ = MergeTable(image);
  if (unigram_) scores_ = UnigramModel(image);
}

void PieceModel::put(ImageWriter& image) const {
  image.flags({unigram_, escaped_, byte_fallback_, whole_});
  image.number(static_cast<uint64_t>(unknown_));
  for (const int32_t id : byte_ids_) image.number(static_cast<uint64_t>(id));
  image.array(std::span(types_));
  cuts_.put(image);
  pieces_.put(image);
  user_defined_.put(image);
  merges_.put(image);
  if (unigram_) scores_.put(image);
}

void PieceModel::build_unigram(const SentencePieceSpec& spec) {
  constexpr float kUnknownPenalty = 10;
  float least = std::numeric_limits<float>::max();
  for (size_t id = 0; id < spec.pieces.size(); ++id) {
    const Piece& piece = spec.pieces[id];
    if (piece.type == PieceType::kNormal) least = std::min(least, piece.score);
    if (!piece.text.empty() && (piece.type == PieceType::kNormal || piece.type == PieceType::kUserDefined))
      scores_.add_piece(piece.text, static_cast<int32_t>(id), piece.score);
  }
  scores_.set_unknown_score(least - kUnknownPenalty);
}

// The library merges any two neighbours whose text is a piece. As pairs, those are all that a piece can be
// cut into.
void PieceModel::build_merges(const SentencePieceSpec& spec) {
  const std::vector<int32_t> ranks = ranks_of(spec.pieces);
  std::vector<BpeMerge> merges;
  for (size_t id = 0; id < spec.pieces.size(); ++id) {
    const Piece& piece = spec.pieces[id];
    if (!is_text(piece.type) || piece.text.empty()) continue;
    const size_t before = merges.size();
    add_merges(piece.text, static_cast<int32_t>(id), ranks[id], merges);
    whole_ |= piece.type == PieceType::kUnused && merges.size() > before;
  }
  merges_ = MergeTable(merges);
}

void PieceModel::add_merges(std::string_view piece, int32_t id, int32_t rank,
                            std::vector<BpeMerge>& merges) const {
  const auto symbol = [&](std::string_view part) {  // -1: none
    int32_t found = -1;
    if (decode_char(part.data()).size == part.size())
      return user_defined_.longest(part, found) > 0 ? -1
                                                    : symbol_at(part.data(), decode_char(part.data()).size);
    return pieces_.longest(part, found) == part.size() ? found : -1;
  };
  for (size_t at = decode_char(piece.data()).size; at < piece.size();
       at += decode_char(piece.data() + at).size) {
    const int32_t left = symbol(piece.substr(0, at));
    const int32_t right = left < 0 ? -1 : symbol(piece.substr(at));
    if (right >= 0) merges.push_back({left, right, rank, id});
  }
}

// Of the character at p.
int32_t PieceModel::symbol_at(const char* p, uint32_t size) const {
  int32_t id = -1;
  if (pieces_.longest({p, size}, id) == size) return id;
  return kCharacter + static_cast<int32_t>(decode_char(p).code);
}

void PieceModel::encode(std::string_view text, Session& session, IdOutput& out) const {
  State state;
  each_word_cached(
      session.cache, text,
      [&](std::string_view all, auto&& part) {
        if (!whole_) return cuts_.for_each_part(all, part);
        if (!all.empty()) part(all.data(), all.data() + all.size());
      },
      [&](const WordCache::Entry& entry) {
        if (unigram_) {
          if (!scores_.same_behind(state.sum, entry.margin, entry.size)) return false;
          for (size_t i = 0; i < entry.count; ++i) state.sum = scores_.add(state.sum, entry.ids[i]);
        }
        state.after_unknown = false;
        out.add(entry);
        return true;
      },
      [&](const CachedWord& part) {
        encode_part(part, session, state);
        out.add(session.ids);
      });
}

void PieceModel::encode_part(const CachedWord& part, Session& session, State& state) const {
  session.ids.clear();
  bool unknown = false;
  if (!unigram_) {
    merge_part(part.text, session, state, unknown);
    // Whether an unknown piece joins the one before depends on the text before the part.
    if (!whole_ && (byte_fallback_ || !unknown)) part.keep(session.ids);
    return;
  }
  const float before = state.sum;
  const float margin = scores_.encode(part.text, state.sum, session.unigram);
  for (const auto& found : session.unigram.found) {
    unknown |= found.id < 0;
    if (found.id < 0)
      put_unknown(part.text.substr(found.begin, found.end - found.begin), session, state);
    else
      session.ids.push_back(found.id), state.after_unknown = false;
  }
  if (unknown || !scores_.same_behind(before, margin, part.text.size())) return;
  if (WordCache::Entry* entry = part.keep(session.ids)) entry->margin = margin;
}

void PieceModel::merge_part(std::string_view part, Session& session, State& state, bool& unknown) const {
  std::vector<int32_t>& symbols = session.merging.ids;
  symbols.clear();
  for (size_t at = 0; at < part.size();) {
    int32_t id = -1;
    size_t size = user_defined_.empty() ? 0 : user_defined_.longest(part.substr(at), id);
    if (size == 0) {
      size = decode_char(part.data() + at).size;
      id = symbol_at(part.data() + at, static_cast<uint32_t>(size));
    }
    symbols.push_back(id);
    at += size;
  }
  session.parts.clear();
  session.merging.parts = whole_ ? &session.parts : nullptr;
  merges_.merge(session.merging);
  for (const int32_t symbol : symbols) put_symbol(symbol, 0, session, state, unknown);
}

// A piece that is not used is taken apart into those that it was last made of.
void PieceModel::put_symbol(int32_t symbol, int depth, Session& session, State& state, bool& unknown) const {
  constexpr int kMostDepth = 100;  // the library's
  if (symbol >= kCharacter) {
    unknown = true;
    std::string text;
    append_utf8(static_cast<uint32_t>(symbol - kCharacter), text);
    return put_unknown(text, session, state);
  }
  if (whole_ && depth <= kMostDepth) {
    const auto parts = session.parts.find(symbol);
    if (types_[static_cast<size_t>(symbol)] == PieceType::kUnused && parts != session.parts.end()) {
      const auto [left, right] = parts->second;
      put_symbol(left, depth + 1, session, state, unknown);
      return put_symbol(right, depth + 1, session, state, unknown);
    }
  }
  session.ids.push_back(symbol);
  state.after_unknown = false;
}

void PieceModel::put_unknown(std::string_view text, Session& session, State& state) const {
  if (byte_fallback_) {
    if (escaped_ && text == " ") text = kSpaceSymbol;
    for (const char byte : text) session.ids.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
  } else if (!state.after_unknown) {
    session.ids.push_back(unknown_);
  }
  state.after_unknown = true;
}

}  // namespace flagscale::text
