#include "tests/docs/blocks.h"

#include <gtest/gtest.h>

namespace flagscale::docs {
namespace {

TEST(Blocks, AreCommandsWithTheOutputThatFollows) {
  const auto found = blocks(
      "# A\n\n```sh\necho 1\n```\n\n```text\n1\n```\n```yaml\na: "
      "1\n```\n```sh\ntrue\n```\nProse.\n```text\nno\n```\n");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].line, 3);
  EXPECT_EQ(found[0].command, "echo 1\n");
  EXPECT_EQ(found[0].output, "1\n");
  EXPECT_EQ(found[1].command, "true\n");
  EXPECT_EQ(found[1].output, "");
}

TEST(Blocks, CompareLoosely) {
  EXPECT_EQ(first_missing("loss 3.21\n…\ndone", "loss   12.4\nother\ndone\n"), "");
  EXPECT_EQ(first_missing("read 14 files in … s", "read 3 files in 1.25 s"), "");
  EXPECT_EQ(first_missing("The capital of France is Paris.", "The capital of France is Lyon."),
            "The capital of France is Paris.");
  EXPECT_EQ(first_missing("b\na", "a\nb\n"), "a");
  EXPECT_EQ(first_missing("start…", "restart now"), "start…");
}

}  // namespace
}  // namespace flagscale::docs
