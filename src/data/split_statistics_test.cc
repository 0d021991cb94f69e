#include "data/split_statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "data/indexed_writer.h"

namespace flagscale::data {
namespace {

namespace fs = std::filesystem;

TEST(SplitStatistics, GivesEachSplitsOwnEntropy) {
  const std::string prefix = (fs::path(testing::TempDir()) / "split_statistics").string();
  IndexedWriter writer(prefix, TokenType::kU16);
  const std::vector<int32_t> uniform{0, 1, 2, 3}, skewed{7, 7, 7, 9};
  for (int i = 0; i < 4; ++i) {
    writer.add_sequence(i < 3 ? uniform : skewed);
    writer.end_document();
  }
  writer.commit();
  writer.remove_parts();
  const IndexedReader reader(prefix);
  const auto splits = split_statistics(reader, "75,25,0");
  ASSERT_EQ(splits.size(), 2u);
  EXPECT_EQ(splits[0].name, "train");
  EXPECT_EQ(splits[0].tokens, 12);
  EXPECT_EQ(splits[0].distinct_tokens, 4);
  EXPECT_NEAR(splits[0].unigram_entropy, std::log(4.0), 1e-12);
  EXPECT_EQ(splits[1].name, "valid");
  EXPECT_EQ(splits[1].sequences, 1);
  EXPECT_NEAR(splits[1].unigram_entropy, -0.75 * std::log(0.75) - 0.25 * std::log(0.25), 1e-12);
  EXPECT_THROW(split_statistics(reader, "none"), Error);
  for (const char* extension : {".bin", ".idx"}) fs::remove(prefix + extension);
}

}  // namespace
}  // namespace flagscale::data
