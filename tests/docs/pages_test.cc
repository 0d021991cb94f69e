// What a page must be for its commands to be tested and its links to lead somewhere.

#include <gtest/gtest.h>

#include <sstream>

#include "tests/docs/blocks.h"

namespace flagscale::docs {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = FLAGSCALE_SOURCE_DIR;

// What looks like a command is run, or says that it is not: a fence names its language, a session is one.
TEST(Pages, SayWhatIsRun) {
  for (const fs::path& page : pages(kSource)) {
    std::istringstream lines(text_of(page));
    bool inside = false;
    std::string fence;
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
      const std::string where = page.filename().string() + ":" + std::to_string(++number);
      EXPECT_TRUE(!fence.starts_with("```console") || line.starts_with("$ "))
          << where << ": a session begins with no command after \"$ \"";
      fence.clear();
      if (!line.starts_with("```")) continue;
      inside = !inside;
      if (inside) fence = line;
      EXPECT_NE(fence, "```") << where << ": a fence without a language";
    }
  }
}

// A link to a file of the tree leads somewhere.
TEST(Pages, LinkToWhatIsThere) {
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
