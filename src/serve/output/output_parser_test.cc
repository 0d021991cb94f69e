// Every split of every sample joins to the same message as the whole.

#include "serve/output/output_parser.h"

#include <gtest/gtest.h>

#include "serve/output/tag_scanner.h"

namespace flagscale::serve {
namespace {

NewCallId numbered() {
  return [next = 0]() mutable { return "id" + std::to_string(next++); };
}

using Make = std::function<std::unique_ptr<OutputParser>()>;

Make tool(const char* name) {
  return [name] { return Registry<ToolFormat>::instance().find(name)->make(numbered()); };
}

std::string shown(const Delta& delta) {
  std::string text = "R<" + delta.reasoning + "> C<" + delta.content + ">";
  for (const CallDelta& call : delta.calls)
    text += " [" + std::to_string(call.index) + " " + call.id + " " + call.name + " " + call.arguments + "]";
  return text;
}

Delta parse(const Make& make, const std::vector<std::string_view>& pieces) {
  const auto parser = make();
  Delta all;
  for (const std::string_view piece : pieces) {
    Delta delta;
    parser->put(piece, delta);
    append(all, std::move(delta));
  }
  Delta last;
  parser->finish(last);
  append(all, std::move(last));
  return all;
}

void expect(const Make& make, const std::string& text, const std::string& expected) {
  const std::string_view view = text;
  EXPECT_EQ(shown(parse(make, {view})), expected) << text;
  for (size_t i = 0; i <= text.size(); ++i)
    for (size_t j = i; j <= text.size(); ++j)
      ASSERT_EQ(shown(parse(make, {view.substr(0, i), view.substr(i, j - i), view.substr(j)})), expected)
          << text << " cut at " << i << " and " << j;
  std::vector<std::string_view> bytes;
  for (size_t i = 0; i < text.size(); ++i) bytes.push_back(view.substr(i, 1));
  EXPECT_EQ(shown(parse(make, bytes)), expected) << text;
}

TEST(ToolParsers, Hermes) {
  const Make hermes = tool("hermes");
  expect(hermes, "Hello <b>there</b>", "R<> C<Hello <b>there</b>>");
  expect(hermes,
         "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}<\\\"\", \"b\": [1, {}]}}\n</tool_call>",
         "R<> C<> [0 id0 f {\"a\": \"}<\\\"\", \"b\": [1, {}]}]");
  expect(hermes,
         "Wait.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</"
         "tool_call>\n<tool_call>{\"name\":\"g\",\"arguments\":{\"x\":1}}</tool_call>",
         "R<> C<Wait.\n> [0 id0 f {}] [1 id1 g {\"x\":1}]");
  expect(hermes, "<tool_call>{\"arguments\": {\"x\": 2}, \"name\": \"late\"}</tool_call> bye",
         "R<> C< bye> [0 id0 late {\"x\": 2}]");
  expect(hermes, "<tool_call>{\"name\": \"none\"}</tool_call>", "R<> C<> [0 id0 none {}]");
  expect(hermes, "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"q\\\": 1}\"}</tool_call>",
         "R<> C<> [0 id0 f {\"q\": 1}]");
}

TEST(ToolParsers, HermesKeepsWhatIsNoCall) {
  const Make hermes = tool("hermes");
  expect(hermes, "<tool_call>not json</tool_call>", "R<> C<<tool_call>not json</tool_call>>");
  expect(hermes, "<tool_call>{\"title\": 1}</tool_call>", "R<> C<<tool_call>{\"title\": 1}</tool_call>>");
  expect(hermes, "a < b <tool", "R<> C<a < b <tool>");
  expect(hermes, "  \n ", "R<> C<  \n >");
  expect(hermes, "<tool_call>{\"name\": \"f\", \"argum", "R<> C<<tool_call>{\"name\": \"f\", \"argum>");
  expect(hermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1",
         "R<> C<> [0 id0 f {\"a\": 1]");  // cut by max_tokens
}

TEST(ToolParsers, Llama3) {
  const Make llama = tool("llama3_json");
  expect(llama, "{\"name\": \"f\", \"parameters\": {\"city\": \"Zürich\"}}",
         "R<> C<> [0 id0 f {\"city\": \"Zürich\"}]");
  expect(llama,
         "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {\"a\": 1}}",
         "R<> C<> [0 id0 f {}] [1 id1 g {\"a\": 1}]");
  expect(llama, "{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"a\": null}}",
         "R<> C<> [0 id0 f {\"a\": null}]");
  expect(llama, "The answer is {\"name\": 1}.", "R<> C<The answer is {\"name\": 1}.>");
  expect(llama, "{\"answer\": 42}", "R<> C<{\"answer\": 42}>");
  expect(llama, "<|python", "R<> C<<|python>");
}

TEST(ToolParsers, Mistral) {
  const Make mistral = tool("mistral");
  expect(
      mistral,
      "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": [1]}}, {\"name\": \"g\", \"arguments\": {}}]",
      "R<> C<> [0 id0 f {\"a\": [1]}] [1 id1 g {}]");
  expect(mistral, "[TOOL_CALLS]get_it[ARGS]{\"a\": {\"b\": 1}}",
         "R<> C<> [0 id0 get_it {\"a\": {\"b\": 1}}]");
  expect(mistral, "[TOOL_CALLS]f{\"a\": 1}[TOOL_CALLS]g[CALL_ID]x1[ARGS]{}",
         "R<> C<> [0 id0 f {\"a\": 1}] [1 id1 g {}]");
  expect(mistral, "Sure. [TOOL", "R<> C<Sure. [TOOL>");
  expect(mistral, "[1, 2]", "R<> C<[1, 2]>");
  expect(mistral, "[TOOL_CALLS] [oops]", "R<> C<[TOOL_CALLS] [oops]>");
}

TEST(ToolParsers, RequiredAndNamed) {
  expect([] { return array_parser(numbered()); },
         "[{\"name\": \"f\", \"parameters\": {\"a\": 1}}, {\"name\": \"g\", \"parameters\": {}}]",
         "R<> C<> [0 id0 f {\"a\": 1}] [1 id1 g {}]");
  for (const char* cut : {"", "[", "[{\"name\"", "[{\"name\": \"f\", \"param"})
    expect([] { return array_parser(numbered()); }, cut, "R<> C<>");
  expect([] { return array_parser(numbered()); },
         "[{\"name\": \"f\", \"parameters\": {\"a\": 1}}, {\"name\": \"g\"", "R<> C<> [0 id0 f {\"a\": 1}]");
  expect([] { return named_parser("f", numbered()); }, "{\"a\": 1}", "R<> C<> [0 id0 f {\"a\": 1}]");
  expect([] { return first_call_only(array_parser(numbered())); },
         "[{\"name\": \"f\", \"parameters\": {}}, {\"name\": \"g\", \"parameters\": {}}]",
         "R<> C<> [0 id0 f {}]");
}

TEST(Reasoning, IsPartedFromTheContent) {
  const auto thinking = [](bool inside) -> Make {
    return [inside] { return reasoning_parser(plain_parser(), inside); };
  };
  expect(thinking(false), "<think>\nHm, 1 < 2.\n</think>\n\nYes.", "R<Hm, 1 < 2.\n> C<Yes.>");
  expect(thinking(false), "No thoughts </think> here", "R<> C<No thoughts </think> here>");
  expect(thinking(false), " <thin", "R<> C< <thin>");
  expect(thinking(true), "Hm.</think>Yes <think>.", "R<Hm.> C<Yes <think>.>");
  expect(thinking(true), "<think>Hm.</think>Yes", "R<Hm.> C<Yes>");
  expect(thinking(true), "cut off </thi", "R<cut off </thi> C<>");
  expect(
      [] {
        return reasoning_parser(Registry<ToolFormat>::instance().find("hermes")->make(numbered()), false);
      },
      "<think>a <tool_call></think>\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>",
      "R<a <tool_call>> C<> [0 id0 f {}]");
}

TEST(TagScanner, FindsTheFirstToEnd) {
  const auto scan = [](std::vector<std::string> tags, const std::string& text, size_t cut) {
    TagScanner scanner(std::move(tags));
    std::string before;
    for (std::string_view piece :
         {std::string_view(text).substr(0, cut), std::string_view(text).substr(cut)}) {
      const int found = scanner.put(piece, before);
      if (found >= 0) return before + "|" + std::to_string(found);
    }
    return before + "|" + scanner.rest();
  };
  for (size_t cut = 0; cut <= 8; ++cut) {
    EXPECT_EQ(scan({"abab", "bc"}, "xababcxx", cut), "x|0");
    EXPECT_EQ(scan({"aab"}, "aaaaabxx", cut), "aaa|0");
    EXPECT_EQ(scan({"c", "bc", "abc"}, "xxabcxxx", cut), "xx|2");  // all end here: the longest
    EXPECT_EQ(scan({"END"}, "wait ENx", cut), "wait ENx|");
    EXPECT_EQ(scan({"END"}, "wait  EN", cut), "wait  |EN");
  }
}

}  // namespace
}  // namespace flagscale::serve
