// Every `sh` block of README.md and docs/*.md, in order, in a fresh clone of what is committed: what the
// pages say works.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/docs/blocks.h"
#include "tests/e2e/program.h"

namespace flagscale::docs {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = FLAGSCALE_SOURCE_DIR;

std::string text_of(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<fs::path> pages(const fs::path& tree) {
  std::vector<fs::path> result;
  for (const auto& entry : fs::directory_iterator(tree / "docs"))
    if (entry.path().extension() == ".md") result.push_back(entry.path());
  std::sort(result.begin(), result.end());
  result.insert(result.begin(), tree / "README.md");
  return result;
}

class Docs : public testing::Test {
 protected:
  // The clone takes over what is expensive to make and not in git: packages fetched and the compiler's cache.
  void SetUp() override {
    if (!fs::exists(kSource / ".git")) GTEST_SKIP() << "not a git checkout: nothing to clone";
    const auto cloned = e2e::shell("git clone -q '" + kSource.string() + "' '" + tree_.string() + "'");
    ASSERT_EQ(cloned.code, 0) << cloned.err;
    fs::create_directory(kSource / ".deps");
    fs::create_directory_symlink(kSource / ".deps", tree_ / ".deps");
  }
  void TearDown() override { fs::remove_all(tree_); }

  const fs::path tree_ = fs::temp_directory_path() / ("flagscale-docs-" + std::to_string(getpid()));
};

TEST_F(Docs, SayWhatHappens) {
  // The pages' two long commands, shortened: fewer training steps, and one test program instead of all, this
  // one included.
  setenv("FLAGSCALE_TRAIN_ITERS", "120", 0);
  setenv("FLAGSCALE_CTEST", "-R ^base$", 0);
  setenv("PATH", (tree_.string() + "/build:" + std::getenv("PATH")).c_str(), 1);
  for (const fs::path& page : pages(tree_))
    for (const Block& block : blocks(text_of(page))) {
      const std::string where = page.filename().string() + ":" + std::to_string(block.line);
      const auto result =
          e2e::shell("set -e\nexport PATH=" + tree_.string() + "/build:$PATH\n" + block.command, tree_);
      EXPECT_EQ(result.code, 0) << where << ":\n" << block.command << result.out << result.err;
      const std::string missing = first_missing(block.output, result.out + result.err);
      EXPECT_EQ(missing, "") << where << " shows what is not printed:\n" << result.out << result.err;
    }
}

// A link to a file of the tree leads somewhere.
TEST(Links, LeadSomewhere) {
  for (const fs::path& page : pages(kSource)) {
    const std::string text = text_of(page);
    for (size_t at = text.find("]("); at != std::string::npos; at = text.find("](", at + 1)) {
      const std::string target = text.substr(at + 2, text.find_first_of(")#", at + 2) - at - 2);
      if (target.empty() || target.find("://") != std::string::npos) continue;
      EXPECT_TRUE(fs::exists(page.parent_path() / target)) << page.filename() << " links to " << target;
    }
  }
}

}  // namespace
}  // namespace flagscale::docs
