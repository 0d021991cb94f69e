// The team of threads: every index once, in any number of calls, with callers that come and go.
#include "base/parallel.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

namespace flagscale {
namespace {

TEST(Team, RunsOnEveryThreadOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    const Team team(threads);
    ASSERT_EQ(team.size(), threads);
    for (int call = 0; call < 200; ++call) {
      std::vector<int> runs(
          static_cast<size_t>(threads));  // unguarded: what a thread wrote, the caller reads
      team.run([&](int thread) { ++runs[static_cast<size_t>(thread)]; });
      EXPECT_EQ(runs, std::vector<int>(static_cast<size_t>(threads), 1));
    }
  }
}

// On one core the other thread does not run while the caller does: the caller goes on without it.
TEST(Team, WaitsForNoThreadThatDoesNotRun) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(sched_getcpu()), &one);
  if (sched_setaffinity(0, sizeof one, &one) != 0) GTEST_SKIP() << "may not choose its core here";
  const Team team(2);
  const auto caller = std::this_thread::get_id();
  int by_caller = 0;
  std::atomic<int> runs{0};
  for (int call = 0; call < 1000; ++call)
    team.run([&](int thread) {
      ++runs;
      if (thread == 1 && std::this_thread::get_id() == caller) ++by_caller;
    });
  sched_setaffinity(0, sizeof before, &before);
  EXPECT_EQ(runs, 2000);
  EXPECT_GT(by_caller, 500);
}

TEST(Team, HandsOutEveryIndexOnce) {
  const Team team(4);
  for (const int64_t n : {0, 1, 2, 3, 64, 1000})
    for (const int64_t grain : {1, 3, 2000}) {
      std::vector<int> runs(static_cast<size_t>(n));
      team.for_each(n, [&](int64_t i) { ++runs[static_cast<size_t>(i)]; }, grain);
      EXPECT_EQ(std::accumulate(runs.begin(), runs.end(), int64_t{0}), n);
      for (const int times : runs) EXPECT_EQ(times, 1);
    }
}

// A call sees what the one before it wrote, whichever thread did.
TEST(Team, CallsFollowEachOther) {
  const Team team(3);
  std::vector<int64_t> values(300, 1), sums(300);
  for (int round = 0; round < 300; ++round) {
    team.for_each(300, [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      sums[at] = values[at] + values[(at + 1) % 300];
    });
    team.for_each(300,
                  [&](int64_t i) { values[static_cast<size_t>(i)] = sums[static_cast<size_t>(i)] % 1009; });
  }
  std::vector<int64_t> expected(300, 1);
  for (int round = 0; round < 300; ++round) {
    std::vector<int64_t> next(300);
    for (size_t i = 0; i < 300; ++i) next[i] = (expected[i] + expected[(i + 1) % 300]) % 1009;
    expected = next;
  }
  EXPECT_EQ(values, expected);
}

// Workers that have gone to sleep wake up, and so does a caller that slept while one of them worked.
TEST(Team, WakesFromSleep) {
  const Team team(3);
  std::atomic<int> runs{0};
  for (int call = 0; call < 5; ++call) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    team.run([&](int thread) {
      if (thread != 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      ++runs;
    });
    EXPECT_EQ(runs, 3 * (call + 1));
  }
}

// One caller at a time, but not always the same thread; and a team that never ran ends.
TEST(Team, ComesAndGoes) {
  for (int i = 0; i < 50; ++i) {
    const Team idle(3);
    const auto team = std::make_unique<Team>(2);
    int total = 0;
    for (int caller = 0; caller < 3; ++caller)
      std::thread([&] {
        team->run([&](int t) {
          if (t == 0) ++total;
        });
      }).join();
    EXPECT_EQ(total, 3);
  }
}

}  // namespace
}  // namespace flagscale
