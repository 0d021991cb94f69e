// What each format's grammar lets pass: free text always, a call only as its schema has it.

#include "serve/output/tool_grammar.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "serve/output/output_parser.h"
#include "serve/scripted_model_test_support.h"
#include "text/grammar.h"

namespace flagscale::serve {
namespace {

using Thought = ToolSyntax::Thought;

const std::vector<ToolSchema> kTools = {
    {"get_weather",
     R"({"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false})"},
    {"add\"up", R"({"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]})"}};

class ToolGrammars : public ::testing::Test {
 protected:
  // Whether the format's grammar takes the text, token by token, and lets it end there.
  bool takes(const std::string& format, const std::string& text, const std::string& special = {}) {
    const auto tokenizer = testing::make_tokenizer(special);
    const text::GrammarVocab vocab(*tokenizer, 264, testing::kEnd);
    const ToolSyntax syntax{*tokenizer, chat_template, kTools, parallel, thought};
    const auto matcher =
        vocab.compile("lark", Registry<ToolFormat>::instance().find(format)->grammar(syntax));
    std::vector<uint32_t> words((static_cast<size_t>(vocab.size()) + 31) / 32);
    const auto allowed = [&](int32_t id) {
      matcher->mask(words);
      return (words[static_cast<size_t>(id) / 32] >> (id % 32) & 1) != 0;
    };
    bool ended = false;
    for (const int32_t id : tokenizer->encode(text)) {
      if (ended || !allowed(id)) return false;
      ended = matcher->accept(id);
    }
    return ended || allowed(vocab.eos());
  }

  std::string chat_template;
  bool parallel = true;
  Thought thought = Thought::kNone;
};

const std::string kWeather = R"({"name": "get_weather", "arguments": {"city": "Paris"}})";
const std::string kAdd = R"({"name":"add\"up","arguments":{"a":1}})";

TEST_F(ToolGrammars, HermesLeavesTextFree) {
  for (const char* text : {"", "Hello <b>there</b>, {\"name\": 1}", "half <tool_cal", "¿Qué? 中 🙂\n\n"})
    EXPECT_TRUE(takes("hermes", text)) << text;
}

TEST_F(ToolGrammars, HermesCallsAreValid) {
  EXPECT_TRUE(takes("hermes", "<tool_call>\n" + kWeather + "\n</tool_call>"));
  EXPECT_TRUE(takes("hermes", "Let me see. <tool_call>" + kAdd + "</tool_call>"));
  EXPECT_TRUE(takes("hermes", "<tool_call>\n" + kWeather + "\n</tool_call>\n<tool_call>\n" + kAdd +
                                  "\n</tool_call> and so on"));
  EXPECT_FALSE(takes("hermes", "<tool_call>\n" + kWeather)) << "a call that does not end";
  EXPECT_FALSE(takes("hermes", "<tool_call>hello</tool_call>"));
  EXPECT_FALSE(takes("hermes", R"(<tool_call>{"name": "other", "arguments": {}}</tool_call>)"));
  EXPECT_FALSE(takes("hermes", R"(<tool_call>{"name": "get_weather", "arguments": {}}</tool_call>)"));
  EXPECT_FALSE(takes("hermes", R"(<tool_call>{"name": "get_weather", "arguments": {"a": 1}}</tool_call>)"));
  EXPECT_FALSE(takes("hermes", R"(<tool_call>{"name": "add\"up", "arguments": {"a": "1"}}</tool_call>)"));
  parallel = false;
  EXPECT_TRUE(takes("hermes", "Well: <tool_call>\n" + kWeather + "\n</tool_call>"));
  EXPECT_FALSE(takes("hermes", "<tool_call>" + kAdd + "</tool_call><tool_call>" + kAdd + "</tool_call>"));
}

TEST_F(ToolGrammars, ThoughtsAreNotConstrained) {
  const std::string call = "<tool_call>" + kWeather + "</tool_call>";
  thought = Thought::kMay;
  EXPECT_TRUE(takes("hermes", "<think>\nI might <tool_call> it\n</think>\n\n" + call));
  EXPECT_TRUE(takes("hermes", call));
  EXPECT_TRUE(takes("hermes", "Plain text"));
  EXPECT_FALSE(takes("hermes", "<think>Hm</think><tool_call>no"));
  EXPECT_FALSE(takes("hermes", "<tool_call>no"));
  thought = Thought::kInside;
  EXPECT_TRUE(takes("hermes", "I might <tool_call> it\n</think>\n\n" + call));
  EXPECT_TRUE(takes("hermes", "Hm.</think>Plain text"));
  EXPECT_FALSE(takes("hermes", "Hm.</think><tool_call>no"));
}

TEST_F(ToolGrammars, Llama) {
  const std::string weather = R"({"name": "get_weather", "parameters": {"city": "Paris"}})";
  for (const char* text : {"", "Hello", "{\"a\": 1}", "{", " {\"names\": 1}", "text {\"name\": 3}"})
    EXPECT_TRUE(takes("llama3_json", text)) << text;
  EXPECT_TRUE(takes("llama3_json", weather));
  EXPECT_TRUE(takes("llama3_json", "\n " + weather + "; " + weather));
  EXPECT_FALSE(takes("llama3_json", R"({"name": "other", "parameters": {}})"));
  EXPECT_FALSE(takes("llama3_json", R"({"name": "get_weather", "parameters": {"city": 1}})"));
  EXPECT_FALSE(takes("llama3_json", R"({"name": "get)"));
  EXPECT_FALSE(takes("llama3_json", weather + " and text"));
  parallel = false;
  EXPECT_TRUE(takes("llama3_json", weather));
  EXPECT_FALSE(takes("llama3_json", weather + ";" + weather));
}

TEST_F(ToolGrammars, MistralAsAList) {
  EXPECT_TRUE(takes("mistral", "Hello [TOOL"));
  EXPECT_TRUE(takes("mistral", "[TOOL_CALLS] [" + kWeather + "]"));
  EXPECT_TRUE(takes("mistral", "Well. [TOOL_CALLS][" + kWeather + ", " + kAdd + "]"));
  EXPECT_TRUE(takes("mistral", R"([TOOL_CALLS][{"name":"add\"up","arguments":{"a":1},"id":"abcdefghi"}])"));
  EXPECT_FALSE(takes("mistral", "[TOOL_CALLS] []"));
  EXPECT_FALSE(takes("mistral", "[TOOL_CALLS] hello"));
  EXPECT_FALSE(takes("mistral", R"([TOOL_CALLS] [{"name": "other", "arguments": {}}])"));
  parallel = false;
  EXPECT_FALSE(takes("mistral", "[TOOL_CALLS][" + kWeather + ", " + kAdd + "]"));
}

TEST_F(ToolGrammars, MarksMayBeSpecialTokens) {
  EXPECT_TRUE(takes("mistral", "Well. [TOOL_CALLS][" + kWeather + ", " + kAdd + "]", "[TOOL_CALLS]"));
  EXPECT_TRUE(takes("mistral", "Hello [TOOL", "[TOOL_CALLS]"));
  EXPECT_FALSE(takes("mistral", "[TOOL_CALLS] hello", "[TOOL_CALLS]"));
  EXPECT_FALSE(takes("mistral", "Hello [OTHER]", "[OTHER]")) << "no special token may stand in the text";
  const std::string weather = R"({"name": "get_weather", "parameters": {"city": "Paris"}})";
  EXPECT_TRUE(takes("llama3_json", "<|python_tag|>" + weather, "<|python_tag|>"));
  EXPECT_TRUE(takes("llama3_json", weather, "<|python_tag|>"));
  EXPECT_FALSE(takes("llama3_json", "<|python_tag|>print(1)", "<|python_tag|>"));
}

TEST_F(ToolGrammars, MistralByName) {
  chat_template = "[TOOL_CALLS]name[ARGS]";
  EXPECT_TRUE(takes("mistral", "Hello"));
  EXPECT_TRUE(takes("mistral", R"([TOOL_CALLS]get_weather[ARGS]{"city": "Paris"})"));
  EXPECT_TRUE(takes(
      "mistral",
      R"([TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]get_weather[ARGS]{"city": "Rome"})"));
  EXPECT_FALSE(takes("mistral", R"([TOOL_CALLS]get_rain[ARGS]{"city": "Paris"})"));
  EXPECT_FALSE(takes("mistral", R"([TOOL_CALLS]get_weather[ARGS]{"town": "Paris"})"));
  chat_template += "[CALL_ID]";
  EXPECT_TRUE(takes("mistral", R"([TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{"city": "Paris"})"));
}

}  // namespace
}  // namespace flagscale::serve
