#include "launch/shell_quote.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "launch/launcher/child.h"

namespace flagscale::launch {
namespace {

TEST(ShellQuote, PlainWordsStay) {
  EXPECT_EQ(shell_quote("/usr/bin/flag-scale_1.0"), "/usr/bin/flag-scale_1.0");
  EXPECT_EQ(shell_quote("++a.b=c"), "++a.b=c");
  EXPECT_EQ(shell_quote("=ls"), "'=ls'");
  EXPECT_EQ(shell_quote(std::vector<std::string>{"a", "", "b c"}), "a '' 'b c'");
}

TEST(ShellQuote, EscapesStandOutsideOfQuotes) {
  EXPECT_EQ(shell_quote("it's"), R"('it'\''s')");
  EXPECT_EQ(shell_quote(R"(a\)"), R"('a'\\)");
  EXPECT_EQ(shell_quote("hey!"), R"('hey'\!)");
}

TEST(ShellQuote, RefusesWhatNoShellTakes) { EXPECT_THROW(shell_quote(std::string("a\0b", 3)), Error); }

// Every shell that is here reads every word back: each character alone, and what was lost in FlagScale's
// commands.
TEST(ShellQuote, EveryShellReadsTheWordsBack) {
  std::vector<std::string> words = {"",
                                    R"({"a": 1, "b": "$HOME"})",
                                    "a'b\"c",
                                    R"(\\)",
                                    R"('\'')",
                                    "!x !! '!'",
                                    "~/x",
                                    "=ls",
                                    "a=b",
                                    "%1",
                                    "-n",
                                    "*.cc",
                                    "{a,b}",
                                    "a  b",
                                    "`id`",
                                    "$(id)",
                                    "#x",
                                    "x\ty",
                                    "<>|&;()[]?^",
                                    "\xc3\xa9\xe4\xb8\xad",
                                    R"(ends in \)",
                                    R"(\')"};
  for (char c = ' '; c <= '~'; ++c) words.push_back(std::string(1, c));
  std::string expected;
  for (const std::string& word : words) expected += word + "\n";
  std::vector<std::string> line = {"/usr/bin/printf", "%s\\n"};
  line.insert(line.end(), words.begin(), words.end());
  int tried = 0;
  for (const std::string shell : {"sh", "bash", "dash", "zsh", "fish", "csh", "tcsh"}) {
    try {
      const Finished answer = run_all({{{shell, "-c", shell_quote(line)}, {}, {}}}, {})[0];
      EXPECT_EQ(answer.out, expected) << shell << ": " << answer.err;
      ++tried;
    } catch (const Error&) {  // not installed
    }
  }
  EXPECT_GE(tried, 2);
}

}  // namespace
}  // namespace flagscale::launch
