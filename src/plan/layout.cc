#include "plan/layout.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "base/interrupt.h"

namespace flagscale {

namespace {

struct Range {
  size_t begin, end;
};

// Disjoint ranges of offsets by offset, neighbours joined: what is packed tightly is few of them.
class Ranges {
 public:
  void add(Range added) {
    auto first = std::ranges::lower_bound(ranges_, added.begin, {}, &Range::end), last = first;
    for (; last != ranges_.end() && last->begin <= added.end; ++last) {
      added.begin = std::min(added.begin, last->begin);
      added.end = std::max(added.end, last->end);
    }
    if (first == last) {
      ranges_.insert(first, added);
      return;
    }
    *first = added;
    ranges_.erase(first + 1, last);
  }
  // Where `bytes` from `offset` up overlap nothing, at or above it.
  size_t lowest_free(size_t offset, size_t bytes) const {
    auto next = std::ranges::upper_bound(ranges_, offset, {}, &Range::end);
    for (; next != ranges_.end() && next->begin < offset + bytes; ++next) offset = next->end;
    return offset;
  }

 private:
  std::vector<Range> ranges_;
};

// Which offsets are taken while, for any span of launches: a segment tree over launches. Looking at what
// lives together one by one would be quadratic, since what a forward pass keeps for the backward one all
// does.
class Taken {
 public:
  explicit Taken(size_t launches)
      : leaves_(std::bit_ceil(launches)), throughout_(2 * leaves_), sometime_(2 * leaves_) {}

  void add(size_t first, size_t last, Range range) {
    for_each_part(first, last,
                  [&](size_t node) { throughout_[node].add(range), sometime_[node].add(range); });
    for_each_above(first, last, [&](size_t node) { sometime_[node].add(range); });
  }
  size_t lowest_free(size_t first, size_t last, size_t bytes) const {
    std::vector<const Ranges*> taken;
    for_each_part(first, last, [&](size_t node) { taken.push_back(&sometime_[node]); });
    for_each_above(first, last, [&](size_t node) { taken.push_back(&throughout_[node]); });
    size_t offset = 0;
    for (bool moved = true; std::exchange(moved, false);)
      for (const Ranges* ranges : taken) {
        const size_t free = ranges->lowest_free(offset, bytes);
        moved |= free != offset;
        offset = free;
      }
    return offset;
  }

 private:
  // The largest nodes that make up [first, last].
  template <class Visit>
  void for_each_part(size_t first, size_t last, Visit visit) const {
    for (size_t begin = first + leaves_, end = last + leaves_ + 1; begin < end; begin /= 2, end /= 2) {
      if (begin % 2) visit(begin++);
      if (end % 2) visit(--end);
    }
  }
  // Every node that has one of the two ends in it.
  template <class Visit>
  void for_each_above(size_t first, size_t last, Visit visit) const {
    for (size_t a = first + leaves_, b = last + leaves_; b > 0; a /= 2, b /= 2) {
      visit(a);
      if (b != a) visit(b);
    }
  }

  size_t leaves_;
  std::vector<Ranges> throughout_;  // of what is there in all launches of a node
  std::vector<Ranges> sometime_;    // of what was put into the node or one below it
};

}  // namespace

size_t lay_out(std::vector<Interval>& intervals) {
  std::vector<size_t> order(intervals.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return intervals[a].bytes > intervals[b].bytes; });
  int launches = 1;
  for (const Interval& interval : intervals) launches = std::max(launches, interval.first + 1);

  Taken taken(static_cast<size_t>(launches));
  size_t end = 0;
  for (const size_t i : order) {
    throw_if_interrupted();
    Interval& wanted = intervals[i];
    const auto first = static_cast<size_t>(wanted.first),
               last = static_cast<size_t>(std::min(wanted.last, launches - 1));
    wanted.offset = taken.lowest_free(first, last, wanted.bytes);
    end = std::max(end, wanted.offset + wanted.bytes);
    if (wanted.bytes > 0)
      taken.add(first, last, {wanted.offset, (wanted.offset + wanted.bytes + 63) & ~size_t{63}});
  }
  return end;
}

}  // namespace flagscale
