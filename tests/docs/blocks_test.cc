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

TEST(Blocks, OfASessionAreItsCommands) {
  const auto found = blocks(
      "```console\n$ A=1\n$ echo $A \\\n    more\n1 more\n\n$ serve\nReady. Ctrl-C stops it.\n$ talk\n"
      "Welcome.\n> hello\nhi\n> bye\n```\n```console not run: no GPU here\n$ fly\n```\n");
  ASSERT_EQ(found.size(), 4u);
  EXPECT_EQ(found[0].command, "A=1\necho $A \\\n    more\n");
  EXPECT_EQ(found[0].output, "1 more\n\n");
  EXPECT_FALSE(found[0].server);
  EXPECT_EQ(found[1].command, "A=1\nserve\n");
  EXPECT_TRUE(found[1].server);
  EXPECT_EQ(found[2].command, "A=1\ntalk <<'TYPED'\nhello\nbye\nTYPED\n");
  EXPECT_EQ(found[2].output, "hi\n");
  EXPECT_EQ(found[3].not_run, "no GPU here");
  EXPECT_EQ(found[3].line, 15);
}

TEST(Blocks, CompareLoosely) {
  EXPECT_EQ(first_missing("loss 3.21\n…\ndone", "loss   12.4\nother\ndone\n"), "");
  EXPECT_EQ(first_missing("read 14 files in … s", "read 3 files in 1.25 s"), "");
  EXPECT_EQ(first_missing("The capital of France is Paris.", "The capital of France is Lyon."),
            "The capital of France is Paris.");
  EXPECT_EQ(first_missing("b\na", "a\nb\n"), "a");
  EXPECT_EQ(first_missing("start…", "restart now"), "start…");
  EXPECT_EQ(first_missing("{\"id\":\"…\", … \"a\":1} …", "{\"id\":\"xy\",\"b\":2,\"a\":1}"), "");
}

}  // namespace
}  // namespace flagscale::docs
