#include "plan/program.h"

#include <gtest/gtest.h>

#include <algorithm>
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
  program.plan(DeviceKind::kCpu, machine_isa(), team.size());
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
