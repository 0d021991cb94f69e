#include "train/optimizer/share.h"

namespace flagscale::train {

namespace {

int64_t whole_lines(int64_t elements) {
  return (elements + kLineElements - 1) / kLineElements * kLineElements;
}

// Where a share may end that is nearest to element `at` of a parameter's; its end is the next one's begin.
int64_t nearest_cut(const std::vector<Piece>& pieces, int64_t at) {
  int64_t begin = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    const int64_t end = begin + piece.elements;
    if (at < end) {
      const int64_t low = piece.grain > 0 ? begin + (at - begin) / piece.grain * piece.grain : begin;
      int64_t high = piece.grain > 0 ? std::min(low + piece.grain, end) : end;
      if (i + 1 == pieces.size() && high == end) high = whole_lines(end);
      return at - low <= high - at ? low : high;
    }
    begin = end;
  }
  return whole_lines(begin);
}

}  // namespace

std::vector<Range> cut_shares(const std::vector<std::vector<Piece>>& parameters, int ranks) {
  std::vector<int64_t> begins;
  int64_t size = 0;
  for (const std::vector<Piece>& pieces : parameters) {
    begins.push_back(size);
    int64_t elements = 0;
    for (const Piece& piece : pieces) elements += piece.elements;
    size += whole_lines(elements);
  }
  std::vector<Range> shares;
  int64_t begin = 0;
  for (int r = 1; r < ranks; ++r) {
    const int64_t wanted = size / ranks * r + size % ranks * r / ranks;
    const auto next = std::upper_bound(begins.begin(), begins.end(), wanted);
    const auto parameter = static_cast<size_t>(next - begins.begin()) - 1;
    const int64_t end = begins[parameter] + nearest_cut(parameters[parameter], wanted - begins[parameter]);
    shares.push_back({begin, end});
    begin = end;
  }
  shares.push_back({begin, size});
  return shares;
}

}  // namespace flagscale::train
