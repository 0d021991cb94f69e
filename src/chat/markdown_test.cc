#include "chat/markdown.h"

#include <gtest/gtest.h>

namespace flagscale::chat {
namespace {

// With the pieces in which the text comes; attributes as <…>.
std::string shown(const std::vector<std::string>& pieces) {
  std::string raw;
  MarkdownPrinter printer([&](std::string_view text) { raw += text; });
  for (const std::string& piece : pieces) printer.put(piece);
  printer.finish();
  std::string readable;
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] != '\033') {
      readable += raw[i];
      continue;
    }
    const size_t end = raw.find('m', i);
    const std::string codes = raw.substr(i + 3, end - i - 3);  // after ESC [ 0
    readable += codes.empty() ? "</>" : "<" + codes.substr(1) + ">";
    i = end;
  }
  return readable;
}
std::string shown(const std::string& text) { return shown(std::vector<std::string>{text}); }

TEST(Markdown, WithinALine) {
  EXPECT_EQ(shown("plain text, 2 * 3 * 4, a_b_c and x**2"), "plain text, 2 * 3 * 4, a_b_c and x**2");
  EXPECT_EQ(shown("some **bold** and *italic* and ***both***."),
            "some <1>bold</> and <3>italic</> and <1;3>both</>.");
  EXPECT_EQ(shown("__bold__ _italic_ ~~gone~~"), "<1>bold</> <3>italic</> <9>gone</>");
  EXPECT_EQ(shown("**bold with *italic* and `code`**"), "<1>bold with <1;3>italic<1> and <1;36>code<1></>");
  EXPECT_EQ(shown("**a *b***"), "<1>a <1;3>b<1></>");
  EXPECT_EQ(shown("`**code**` and ``a ` b``"), "<36>**code**</> and <36>a ` b</>");
  EXPECT_EQ(shown("[the site](https://example.org) and [x] and [y](a b)"),
            "<4>the site</> <2>(https://example.org)</> and [x] and [y](a b)");
  EXPECT_EQ(shown("\\*not italic\\* \\q"), "*not italic* \\q");
  EXPECT_EQ(shown("unfinished **bold\nnext `code"), "unfinished **bold\nnext `code");
}

TEST(Markdown, Lines) {
  EXPECT_EQ(shown("# Head *x*\n## Second\n#hash\n####### seven"),
            "<1;4>Head <1;3;4>x<1;4></>\n<1>Second</>\n#hash\n####### seven");
  EXPECT_EQ(shown("- one\n* two\n  + three\n1. first\n**bold** start\n-5 degrees"),
            "• one\n• two\n  • three\n1. first\n<1>bold</> start\n-5 degrees");
  EXPECT_EQ(shown("> quoted *x*\n> > - twice\n>none"),
            "<2>│ </>quoted <3>x</>\n<2>│ </><2>│ </>• twice\n<2>│ </>none");
  EXPECT_EQ(shown("***\n---\n"), "<2>────────────────────</>\n<2>────────────────────</>\n");
}

TEST(Markdown, CodeBlocks) {
  EXPECT_EQ(shown("```python\ndef f(*a, **b):\n    return `x`\n\n```\n*after*"),
            "<2>```python</>\n<36>def f(*a, **b):</>\n<36>    return `x`</>\n\n<2>```</>\n<3>after</>");
  EXPECT_EQ(shown("~~~\n```\n~~~~\nx"), "<2>~~~</>\n<36>```</>\n<2>~~~~</>\nx");
  EXPECT_EQ(shown("```\nunclosed *x*"), "<2>```</>\n<36>unclosed *x*</>");
  EXPECT_EQ(shown("```not a fence``` here"), "<36>not a fence</> here");
}

TEST(Markdown, AModelCannotControlTheTerminal) {
  EXPECT_EQ(shown("a\033[31mred\033]0;title\a b\r\x7f\xc2\x9b"
                  "5m \xc2\xa9 é"),
            "a[31mred]0;title b5m © é");
  EXPECT_EQ(without_controls("a\033[31m\xc2\x9b"
                             "b\tc\n\xc2\xa9"),
            "a[31mb\tc\n©");
}

TEST(Markdown, ComesAsSoonAsItIsCertain) {
  std::string text;
  MarkdownPrinter printer([&](std::string_view piece) { text += piece; });
  printer.put("Hello");
  EXPECT_EQ(text, "Hello");
  printer.put(" wor");
  EXPECT_EQ(text, "Hello wor");
  printer.put("ld **bo");
  EXPECT_EQ(text, "Hello world ");
  printer.put("ld**!");
  EXPECT_EQ(text, "Hello world \033[0;1mbold\033[0m!");
  printer.put("\n```\nint ");
  EXPECT_TRUE(text.ends_with("\033[0;36mint ")) << text;
}

TEST(Markdown, IsTheSameAtEverySplitPoint) {
  const std::string text =
      "# Title with `code`\n\nA **bold *nested* word**, a_b, ***all***, ~~gone~~ [l](http://x.y/) \\* é ✓ "
      "\xc2\xa9\n"
      "- item\n  * **inner**\n> quote\n\n***\n```c++\nint main() { return **p; }\n  ```\n``x ` y`` *open\n1. "
      "one\n__end__";
  const std::string whole = shown(text);
  std::vector<std::string> bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    EXPECT_EQ(shown({text.substr(0, i), text.substr(i)}), whole) << i;
    bytes.push_back(text.substr(i, 1));
  }
  EXPECT_EQ(shown(bytes), whole);
  for (size_t i = 0; i < text.size(); i += 7)
    for (size_t j = i; j < text.size(); j += 3)
      ASSERT_EQ(shown({text.substr(0, i), text.substr(i, j - i), text.substr(j)}), whole) << i << " " << j;
}

TEST(Markdown, LongMarksEnd) {
  for (const char c : {'*', '>', '`', '_', '[', '#', '-', '~', ' '}) {
    const std::string text(20000, c);
    EXPECT_GT(shown(text).size(), 5u) << c;
    EXPECT_GT(shown("```\n" + text).size(), 5u) << c;
  }
}

}  // namespace
}  // namespace flagscale::chat
