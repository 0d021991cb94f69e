#include "plan/layout.h"

#include <algorithm>
#include <numeric>

namespace flagscale {

size_t lay_out(std::vector<Interval>& intervals) {
  std::vector<size_t> order(intervals.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return intervals[a].bytes > intervals[b].bytes; });

  std::vector<size_t> placed;  // by offset
  size_t end = 0;
  for (const size_t i : order) {
    Interval& wanted = intervals[i];
    size_t offset = 0;
    for (const size_t j : placed) {
      const Interval& other = intervals[j];
      if (other.last < wanted.first || wanted.last < other.first) continue;
      if (offset + wanted.bytes <= other.offset) break;
      offset = std::max(offset, (other.offset + other.bytes + 63) & ~size_t{63});
    }
    wanted.offset = offset;
    end = std::max(end, offset + wanted.bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), offset,
                                   [&](size_t o, size_t j) { return o < intervals[j].offset; }),
                  i);
  }
  return end;
}

}  // namespace flagscale
