#include "launch/run/verdict.h"

#include <gtest/gtest.h>

namespace flagscale::launch {
namespace {

constexpr const char* kLost =
    "flagscale: error: rank 2 on 127.0.0.1 is gone: its connection was closed (rank 2's output tells more)";

ProcessEnd ended(int code, double time, bool by_us, std::vector<std::string> lines = {"iteration 7"}) {
  Ending ending = exited(0, code, time);
  ending.by_us = by_us;
  return {"localhost", ending, std::move(lines)};
}

TEST(Verdict, ARankThatWasKilledIsTheCulpritThoughOthersEndedBefore) {
  const std::vector<ProcessEnd> ends{ended(1, 10, false, {kLost}), ended(1, 10.01, true, {kLost}),
                                     ended(-9, 10.02, false), ended(-15, 10.03, true)};
  EXPECT_EQ(judge(ends, 0).culprit, 2u);
}

TEST(Verdict, RanksThatWereToldToStopAreNoCulprits) {
  const std::vector<ProcessEnd> ends{
      ended(-9, 10, false, {"4 ranks have met at localhost:29500"}),
      ended(130, 10.05, true, {"flagscale: error: interrupted"}),
      ended(1, 10.05, true, {"flagscale: error: the connection with ? was closed"}),
      ended(130, 10.06, true,
            {"flagscale: error: stopped after iteration 3, which "
             "is saved; the same command goes on from it"})};
  EXPECT_EQ(judge(ends, 0).culprit, 0u);
}

TEST(Verdict, WhatWeEndedIsNoCulprit) {
  const std::vector<ProcessEnd> ends{ended(3, 10, false), ended(-9, 20, true), ended(-15, 10.1, true)};
  EXPECT_EQ(judge(ends, 0).culprit, 0u);
}

TEST(Verdict, ACauseCountsMoreThanItsConsequences) {
  const std::vector<ProcessEnd> ends{ended(1, 10, false, {kLost}), ended(1, 10.01, true, {kLost}),
                                     ended(1, 10.02, true, {"torch.OutOfMemoryError: CUDA out of memory."})};
  const Verdict verdict = judge(ends, 0);
  EXPECT_EQ(verdict.culprit, 2u);
  EXPECT_TRUE(verdict.meaning.starts_with("OutOfMemoryError: The GPU's memory ran out. What to do: "))
      << verdict.meaning;
}

TEST(Verdict, WithoutATraceItIsTheOneThatWasHeardOfFirst) {
  EXPECT_EQ(judge({ended(1, 10, true, {kLost}), ended(1, 10, false, {kLost})}, 1).culprit, 1u);
  EXPECT_EQ(judge({{"a", {}, {}}, {"b", {}, {}}}, 1).culprit, 1u);
}

TEST(Verdict, AHostThatIsLostIsTheCulprit) {
  ProcessEnd lost{"b", Ending{1, Ending::How::kLost, 0, 20, false, -1}, {"iteration 7"}};
  EXPECT_EQ(judge({ended(1, 10, false, {kLost}), lost}, 0).culprit, 1u);
}

// Of several hosts under torchrun: the numbers in the lines are those of ranks, not of hosts.
TEST(Verdict, LinesThatNameRanksBelongToTheProcessThatWroteThem) {
  const std::vector<ProcessEnd> ends{
      ended(1, 10, false, {"[rank0]: Connection reset by peer", "[rank1]: Connection reset by peer"}),
      ended(1, 10.2, true,
            {"[rank2]: Connection reset by peer", "[rank3]: torch.OutOfMemoryError: CUDA out of memory"})};
  EXPECT_EQ(judge(ends, 0).culprit, 1u);
}

}  // namespace
}  // namespace flagscale::launch
