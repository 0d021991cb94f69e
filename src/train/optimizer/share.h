#pragma once
// How data-parallel ranks divide what an optimizer keeps (use_distributed_optimizer): of the flat bucket in
// which all parameters lie, each rank has one stretch of equal length, wherever parameters begin and end, as
// Megatron's buckets are divided. Whole parameters would not balance: the embedding of LLaMA 3's 1B shape is
// a fifth of its weights. Where an optimizer needs a matrix whole (Adafactor, Muon) a cut moves to the
// nearest end of one; a block of numbers in 8 bits stays whole too.

#include <algorithm>
#include <cstdint>
#include <vector>

namespace flagscale::train {

struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

inline Range common(Range a, Range b) {
  const int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

constexpr int64_t kLineElements = 16;  // fp32 numbers of a cache line

// Consecutive elements that may be cut at multiples of `grain` from their start; 0: not at all.
struct Piece {
  int64_t elements, grain;
};

// Where the ranks' shares of a bucket end. pieces: of each parameter in the bucket's order, which begin at
// whole cache lines. The shares follow one another and are the bucket; one may be empty.
std::vector<Range> cut_shares(const std::vector<std::vector<Piece>>& parameters, int ranks);

}  // namespace flagscale::train
