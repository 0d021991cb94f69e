#include "io/slice.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace flagscale::io {

void copy_shared(const Slice& from, const std::byte* source, const Slice& to, std::byte* target,
                 size_t element_bytes) {
  const size_t rank = from.start.size();
  std::vector<int64_t> low(rank), count(rank);
  for (size_t i = 0; i < rank; ++i) {
    low[i] = std::max(from.start[i], to.start[i]);
    count[i] = std::min(from.start[i] + from.size[i], to.start[i] + to.size[i]) - low[i];
    if (count[i] <= 0) return;
  }
  // Trailing dimensions that are whole in both, and the one before them, are one run.
  size_t outer = rank;
  int64_t run = 1;
  while (outer > 0) {
    const size_t i = --outer;
    run *= count[i];
    if (count[i] != from.size[i] || count[i] != to.size[i]) break;
  }
  std::vector<int64_t> at(outer, 0);
  const auto position = [&](const Slice& region) {
    int64_t result = 0;
    for (size_t i = 0; i < rank; ++i)
      result = result * region.size[i] + low[i] - region.start[i] + (i < outer ? at[i] : 0);
    return static_cast<size_t>(result) * element_bytes;
  };
  while (true) {
    std::memcpy(target + position(to), source + position(from), static_cast<size_t>(run) * element_bytes);
    size_t i = outer;
    while (i > 0 && ++at[i - 1] == count[i - 1]) at[--i] = 0;
    if (i == 0) return;
  }
}

}  // namespace flagscale::io
