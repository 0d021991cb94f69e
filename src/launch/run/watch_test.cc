// When a rank counts as hung, by a clock of the test's own.

#include "launch/run/watch.h"

#include <gtest/gtest.h>

namespace flagscale::launch {
namespace {

using std::chrono::seconds;

class WatchTest : public testing::Test {
 protected:
  void SetUp() override { watch_.start(now_); }
  void beat(const std::string& phase, int64_t iteration, const std::string& source = "rank_0") {
    watch_.beat(source, phase, iteration, now_);
  }
  bool silent_after(int time) { return watch_.silent(now_ + seconds(time)).has_value(); }

  PhaseLimits limits_{
      .start = 10, .load = 20, .first_step = 30, .step = -1, .evaluation = 40, .save = 50, .output = 60};
  Watch watch_{limits_};
  Watch::Clock::time_point now_{seconds(1000)};
};

TEST_F(WatchTest, EachPhaseHasALimitOfItsOwn) {
  const std::pair<const char*, int> phases[] = {
      {"start", 10}, {"load", 20}, {"first_step", 30}, {"evaluation", 40}, {"save", 50}};
  for (const auto& [phase, limit] : phases) {
    beat(phase, 3);
    EXPECT_FALSE(silent_after(limit)) << phase;
    ASSERT_TRUE(silent_after(limit + 1)) << phase;
    EXPECT_EQ(watch_.silent(now_ + seconds(limit + 1))->phase, phase);
  }
}

TEST_F(WatchTest, AStepMayTakeTenTimesTheLongest) {
  beat("step", 1);
  EXPECT_FALSE(silent_after(60));
  EXPECT_TRUE(silent_after(61));
  now_ += seconds(40);
  beat("step", 3);  // two steps of 20 s
  EXPECT_FALSE(silent_after(200));
  EXPECT_TRUE(silent_after(201));
  now_ += seconds(150);
  beat("evaluation", 3);
  now_ += seconds(30);
  beat("step", 4);  // an evaluation came between: that was no step
  EXPECT_TRUE(silent_after(201));
}

TEST_F(WatchTest, WithoutHeartbeatsOutputCounts) {
  EXPECT_TRUE(silent_after(61));
  watch_.output(now_ + seconds(30));
  EXPECT_FALSE(silent_after(90));
  EXPECT_EQ(describe(*watch_.silent(now_ + seconds(91))),
            "no output for 61 s, and it gives no heartbeats (limit 60 s)");
}

TEST_F(WatchTest, TheMostSilentIsNamed) {
  beat("save", 9, "rank_1");
  now_ += seconds(5);
  beat("start", 0, "rank_0");
  const auto silence = watch_.silent(now_ + seconds(100));
  EXPECT_EQ(silence->phase, "save");
  EXPECT_EQ(describe(*silence), "no heartbeat for 105 s in phase save, iteration 9 (limit 50 s)");
}

TEST_F(WatchTest, TimeInWhichTheWatcherDidNotRunDoesNotCount) {
  beat("start", 0);
  watch_.pass_over(seconds(300));
  EXPECT_FALSE(silent_after(310));
  EXPECT_TRUE(silent_after(311));
}

}  // namespace
}  // namespace flagscale::launch
