#pragma once
// SentencePiece's unigram models: the pieces of the greatest sum of scores.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "text/byte_trie.h"

namespace flagscale::text {

// The library adds scores up over the whole text in single precision, so that sums that are nearly equal are
// decided by rounding, and so by all that stands before. These functions do the same sums: `sum` is the score
// of the text up to here. Immutable: any thread may call them.
class UnigramModel {
 public:
  UnigramModel() = default;
  explicit UnigramModel(ImageReader& image)  // what put() wrote
      : trie_(image), scores_(image.copy<float>()) {
    for (float* value : {&unknown_score_, &largest_})
      *value = std::bit_cast<float>(static_cast<uint32_t>(image.number()));
  }
  void put(ImageWriter& image) const {
    trie_.put(image);
    image.array(std::span(scores_));
    for (const float value : {unknown_score_, largest_}) image.number(std::bit_cast<uint32_t>(value));
  }

  void add_piece(std::string_view piece, int32_t id, float score);
  void set_unknown_score(float score);

  struct Found {
    int32_t id;           // -1: a character that is no piece
    uint32_t begin, end;  // bytes of the part
  };
  struct Scratch {  // a caller's own memory
    std::vector<Found> found;
    struct Node {
      float score;
      int32_t id;
      int32_t begin;  // -1: no path yet
      double exact, margin;
    };
    std::vector<Node> nodes;
  };
  // The pieces of a part, whose pieces depend on nothing around it but `sum`, into scratch.found. Returns by
  // how much each choice on the best path beat the next best, in exact numbers.
  float encode(std::string_view part, float& sum, Scratch& scratch) const;

  // Whether a part of `size` bytes with that margin is encoded the same behind `sum`, whatever rounding does.
  bool same_behind(float sum, float margin, size_t size) const {
    // Sums of the part are at most `reach`; each of its at most `size` additions errs by a 2^24th of that,
    // and a margin is the difference of two such sums.
    const float reach = std::abs(sum) + static_cast<float>(size) * largest_;
    const float error = static_cast<float>(size + 1) * reach * std::numeric_limits<float>::epsilon();
    return margin > error && reach < kReset;
  }
  // The library's sum behind known pieces.
  float add(float sum, int32_t id) const { return sum + scores_[static_cast<size_t>(id)]; }

 private:
  static constexpr float kReset = 100000;  // where the library starts to count anew

  ByteTrie trie_;
  std::vector<float> scores_;  // by id
  float unknown_score_ = 0;
  float largest_ = 0;  // score, in size
};

}  // namespace flagscale::text
