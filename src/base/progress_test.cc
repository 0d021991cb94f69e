#include "base/progress.h"

#include <gtest/gtest.h>

namespace flagscale {
namespace {

TEST(Progress, FormatsDurations) {
  EXPECT_EQ(format_duration(0), "0:00");
  EXPECT_EQ(format_duration(6.2), "0:07");
  EXPECT_EQ(format_duration(751), "12:31");
  EXPECT_EQ(format_duration(11100), "3:05:00");
}

TEST(Progress, FormatsAmounts) {
  EXPECT_EQ(format_amount(999, "B"), "999 B");
  EXPECT_EQ(format_amount(12'345'678, "B"), "12.3 MB");
  EXPECT_EQ(format_amount(1234, "steps"), "1234 steps");
  EXPECT_EQ(format_amount(2.5, "steps"), "2.5 steps");
}

TEST(Progress, ShowsBarRateAndTimeLeft) {
  EXPECT_EQ(progress_line("train", 50, 200, "steps", 10, "loss 3.21"),
            "train  [======>                 ]  25%  50/200 steps  10 steps/s  ETA 0:15  loss 3.21");
  EXPECT_EQ(progress_line("train", 200, 200, "steps", 10, ""),
            "train  [========================] 100%  200/200 steps  10 steps/s");
}

TEST(Progress, CountsWhereTheTotalIsUnknown) {
  EXPECT_EQ(progress_line("read", 2'000'000, 0, "B", 1e6, ""), "read  2.0 MB  1.0 MB/s");
}

TEST(Progress, SaysNothingOfShortWork) {
  testing::internal::CaptureStderr();
  {
    Progress progress("short", 10, "steps");
    for (int i = 0; i < 10; ++i) progress.advance(1);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace flagscale
