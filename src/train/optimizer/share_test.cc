#include "train/optimizer/share.h"

#include <gtest/gtest.h>

namespace flagscale::train {
namespace {

using Pieces = std::vector<std::vector<Piece>>;

TEST(Shares, OfElementsAreEqualButForALine) {
  const Pieces parameters{{{1000, 16}}, {{7, 16}}, {{100'000, 16}}, {{33, 16}}};
  constexpr int64_t kSize = 1008 + 16 + 100'000 + 48;
  for (const int ranks : {1, 2, 3, 4, 7}) {
    const std::vector<Range> shares = cut_shares(parameters, ranks);
    ASSERT_EQ(shares.size(), static_cast<size_t>(ranks));
    int64_t end = 0;
    for (const Range& share : shares) {
      EXPECT_EQ(share.begin, end);
      EXPECT_EQ(share.begin % kLineElements, 0);
      EXPECT_NEAR(static_cast<double>(share.size()), static_cast<double>(kSize) / ranks, kLineElements);
      end = share.end;
    }
    EXPECT_EQ(end, kSize);
  }
}

TEST(Shares, EndWhereMatricesDo) {
  const Pieces parameters{{{600, 0}, {300, 0}, {100, 0}}, {{500, 0}}, {{1000, 256}}};  // 2528 in whole lines
  EXPECT_EQ(cut_shares(parameters, 2), (std::vector<Range>{{0, 1008}, {1008, 2528}}));
  EXPECT_EQ(cut_shares(parameters, 3), (std::vector<Range>{{0, 900}, {900, 1520 + 256}, {1776, 2528}}));
}

TEST(Shares, MayBeEmptyWhereOneMatrixIsNearlyAll) {
  const std::vector<Range> shares = cut_shares({{{100, 0}}, {{100'000, 0}}}, 4);
  EXPECT_EQ(shares, (std::vector<Range>{{0, 112}, {112, 112}, {112, 100'112}, {100'112, 100'112}}));
}

}  // namespace
}  // namespace flagscale::train
