#include "base/nearest.h"

#include <gtest/gtest.h>

namespace flagscale {
namespace {

TEST(Nearest, CountsEditsAndSwaps) {
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("trian", "train"), 1u);
}

TEST(Nearest, OffersOnlyWhatIsClose) {
  const std::vector<std::string> commands{"data", "generate", "train"};
  EXPECT_EQ(nearest("trian", commands), "train");
  EXPECT_EQ(nearest("genrate", commands), "generate");
  EXPECT_EQ(nearest("serve", commands), "");
  EXPECT_EQ(nearest(std::string(10'000, 'x'), commands), "");
}

}  // namespace
}  // namespace flagscale
