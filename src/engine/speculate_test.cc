#include "engine/speculate.h"

#include <gtest/gtest.h>

namespace flagscale::engine {
namespace {

std::vector<int32_t> drafts(const std::vector<int32_t>& tokens, Speculation options, int64_t most) {
  std::vector<int32_t> result;
  propose(tokens, options, most, result);
  return result;
}

TEST(Speculate, FollowsTheLongestMatchAndOfEqualOnesTheLatest) {
  using Ids = std::vector<int32_t>;
  const Speculation options{4, 3, 1};
  EXPECT_EQ(drafts({1, 2, 3, 9, 5, 3, 7, 1, 2, 3}, options, 4), (Ids{9, 5, 3, 7}));
  EXPECT_EQ(drafts({2, 3, 9, 2, 3, 8, 2, 3}, options, 2), (Ids{8, 2}));
  EXPECT_EQ(drafts({5, 5, 5}, options, 4), (Ids{5})) << "no further than the text goes";
  EXPECT_EQ(drafts({1, 2, 3, 4}, options, 4), Ids{});
  EXPECT_EQ(drafts({7}, options, 4), Ids{});
  EXPECT_EQ(drafts({}, options, 4), Ids{});
  EXPECT_EQ(drafts({4, 9, 4}, {4, 3, 2}, 4), Ids{}) << "shorter than lookup_min";
  EXPECT_EQ(drafts({4, 9, 4}, options, 0), Ids{});
}

}  // namespace
}  // namespace flagscale::engine
