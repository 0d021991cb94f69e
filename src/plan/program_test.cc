#include "plan/program.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <random>

#include "kernel/eager.h"
#include "op/elementwise/elementwise.h"
#include "plan/layout.h"

namespace flagscale {
namespace {

TEST(Layout, NothingThatLivesTogetherOverlaps) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    std::vector<Interval> intervals;
    for (int i = 0; i < 200; ++i) {
      const int first = static_cast<int>(random() % 300);
      intervals.push_back({1 + random() % 5000, first, first + static_cast<int>(random() % 40)});
    }
    const size_t end = lay_out(intervals);
    size_t most_alive = 0;
    for (int t = 0; t < 340; ++t) {
      size_t alive = 0;
      for (const Interval& i : intervals) alive += i.first <= t && t <= i.last ? i.bytes : 0;
      most_alive = std::max(most_alive, alive);
    }
    EXPECT_GE(end, most_alive);
    EXPECT_LE(end, most_alive * 3 / 2);
    for (size_t a = 0; a < intervals.size(); ++a) {
      EXPECT_EQ(intervals[a].offset % 64, 0u);
      EXPECT_LE(intervals[a].offset + intervals[a].bytes, end);
      for (size_t b = 0; b < a; ++b) {
        const Interval &x = intervals[a], &y = intervals[b];
        const bool together = x.first <= y.last && y.first <= x.last;
        ASSERT_FALSE(together && x.offset < y.offset + y.bytes && y.offset < x.offset + x.bytes);
      }
    }
  }
}

// By looking at all that live together, one by one.
size_t lay_out_slowly(std::vector<Interval>& intervals) {
  std::vector<Interval*> order, placed;
  for (Interval& interval : intervals) order.push_back(&interval);
  std::ranges::stable_sort(order, std::ranges::greater(), &Interval::bytes);
  size_t end = 0;
  for (Interval* wanted : order) {
    wanted->offset = 0;
    std::ranges::sort(placed, {}, &Interval::offset);
    for (const Interval* other : placed) {
      if (other->last < wanted->first || wanted->last < other->first) continue;
      if (wanted->offset + wanted->bytes <= other->offset) break;
      wanted->offset = std::max(wanted->offset, (other->offset + other->bytes + 63) & ~size_t{63});
    }
    placed.push_back(wanted);
    end = std::max(end, wanted->offset + wanted->bytes);
  }
  return end;
}

TEST(Layout, EachLiesInTheLowestFreePlace) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    std::vector<Interval> intervals;
    for (size_t i = 0, count = 1 + random() % 100; i < count; ++i) {
      const int first = static_cast<int>(random() % 200),
                length = static_cast<int>(random() % (random() % 2 ? 5 : 300));
      intervals.push_back({1 + random() % (random() % 2 ? 5000 : 100), first,
                           random() % 20 == 0 ? INT32_MAX : first + length});
    }
    std::vector<Interval> slowly = intervals;
    ASSERT_EQ(lay_out(intervals), lay_out_slowly(slowly));
    for (size_t i = 0; i < intervals.size(); ++i) ASSERT_EQ(intervals[i].offset, slowly[i].offset);
  }
}

// What a training of so many layers keeps from its forward pass, and what is short-lived.
std::vector<Interval> layers(int count) {
  std::vector<Interval> intervals;
  const int launches = count * 60;
  for (int at = 0; at < count * 20; ++at) {
    const int back = launches - 2 * at;
    intervals.push_back({static_cast<size_t>(1000 + 997 * (at % 7)), at, at % 3 == 0 ? at + 2 : back});
    intervals.push_back({static_cast<size_t>(900 + 997 * (at % 5)), back, back + 3});
  }
  return intervals;
}

TEST(Layout, TakesNearlyTheSameTimeForEachOfManyLayers) {
  const auto seconds = [](int count) {
    std::vector<Interval> intervals = layers(count);
    const std::clock_t start = std::clock();
    lay_out(intervals);
    return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  };
  seconds(256);
  EXPECT_LT(seconds(2048), 24 * seconds(256)) << "8 times as many layers; 64 would be quadratic";
}

// ((x + x) + x) + ... : many transients, of which two live at a time.
TEST(Program, ReplaysInOneArenaAsEagerExecutionDoes) {
  const auto allocator = make_cpu_allocator();
  const Team team(2);
  int64_t live = 0;
  Program program("sums");
  Arena arena;
  const Tensor x = arena.persistent("x", {64, 32}, DType::kF32).with_live(&live);
  Tensor sum = x;
  {
    Tracer tracer(program);
    Context context{tracer, nullptr};
    for (int i = 0; i < 10; ++i) sum = op::add(context, sum, x);
  }
  program.keep(sum);
  program.plan(machine_isa(), team.size());
  arena.add(program);
  EXPECT_EQ(arena.persistent_bytes(), 64u * 32 * 4);
  EXPECT_EQ(program.transient_bytes(), 2u * 64 * 32 * 4);
  EXPECT_THROW(sum.data<float>(), std::exception);  // no value while tracing
  arena.bind(*allocator);
  EXPECT_EQ(allocator->peak(), arena.bytes());

  for (const int64_t rows :
       {int64_t{64}, int64_t{3}, int64_t{17}}) {  // the live count varies, the plan does not
    live = rows;
    for (int64_t i = 0; i < 64 * 32; ++i) x.data<float>()[i] = static_cast<float>(i + rows);
    program.run(team);
    for (int64_t i = 0; i < rows * 32; ++i)
      ASSERT_EQ(sum.data<float>()[i], 11.f * static_cast<float>(i + rows));
  }
  EXPECT_EQ(allocator->peak(), arena.bytes());
}

}  // namespace
}  // namespace flagscale
