// Conversations to ids and masks, against transformers' own masks of real models' templates
// (tests/golden/data/conversations.json), and what is wrong with a record.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/temporary_folder_test_support.h"
#include "data/indexed_reader.h"
#include "data/inspect.h"
#include "data/preprocess.h"

namespace flagscale::data {
namespace {

using Json = nlohmann::ordered_json;
const std::string kGolden = FLAGSCALE_SOURCE_DIR "/tests/golden/";

// SmolLM's tokenizer with ChatML's two tokens for bos and eos.
class Conversations : public testing::Test {
 protected:
  Conversations() {
    std::filesystem::copy_file(kGolden + "text/smollm.json", folder_.path + "/tokenizer.json");
    folder_.put("tokenizer_config.json", R"({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})");
    tokenizer_ = text::load_tokenizer(folder_.path);
  }
  EncodedConversation encode(const std::string& record, const std::string& source,
                             LearntPart part = LearntPart::kAnswers) const {
    return ConversationEncoder(tokenizer_, source, part)
        .encode(parse_conversation(record, ConversationFormat::kAuto));
  }
  // The text, what is learnt in brackets.
  std::string shown(const std::string& record, const std::string& source = kChatml,
                    LearntPart part = LearntPart::kAnswers) const {
    return shown(encode(record, source, part));
  }
  std::string shown(const EncodedConversation& encoded) const {
    std::string text;
    for (size_t i = 0; i < encoded.ids.size(); ++i) {
      const bool before = i > 0 && encoded.mask[i - 1] == 1, now = encoded.mask[i] == 1;
      if (before != now) text += before ? "]" : "[";
      text += tokenizer_->encoder().token_bytes(encoded.ids[i], false).value();
    }
    return text + (encoded.mask.back() == 1 ? "]" : "");
  }
  std::string refusal(const std::string& record, const std::string& source = kChatml) const {
    try {
      return "none: " + shown(record, source);
    } catch (const Error& error) {
      return error.what();
    }
  }

  static constexpr const char* kChatml =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  TemporaryFolder folder_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
};

// TRL's marks of some templates hold a piece of the generation prompt, which a model is given and does not
// write.
const std::map<std::string, std::vector<std::string>> kHeaders{
    {"deepseekv3", {"<｜Assistant｜>"}},
    {"deepseek_r1_distill", {"<｜Assistant｜>", "<｜tool▁outputs▁end｜>"}},
    {"qwen2_5", {"\n"}},
    {"qwen3_5_think", {"<think>\n"}},
    {"qwen3_6", {"<think>\n"}},
    {"gptoss", {"<|start|>assistant"}},
    {"nemotron_3_nano", {"<think></think>", "<think>\n"}}};

// gpt-oss ends an answer with <|return|>, for which the text has <|end|> once more follows: not what it shall
// write.
std::string as_generated(const std::string& name, std::string text) {
  const auto replace = [&](const std::string& from, const std::string& to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
      text.replace(at, from.size(), to);
  };
  if (const auto headers = kHeaders.find(name); headers != kHeaders.end())
    for (const std::string& header : headers->second) replace("[" + header, header + "[");
  if (name == "gptoss") replace("<|end|>]", "]<|end|>");
  return text;
}

// What gpt-oss thought before it called is left out once it has answered, so that an answer after the call is
// known by its content alone: its channel is not learnt.
bool is_known_otherwise(const std::string& name, const std::string& chat) {
  return name == "gptoss" && chat == "calls";
}

TEST_F(Conversations, MasksAreTransformersOwn) {
  const Json golden = Json::parse(std::ifstream(kGolden + "data/conversations.json"));
  std::map<std::string, std::set<std::string>> templates;  // of each chat
  for (const Json& c : golden["cases"]) {
    const std::string name = c["template"], chat = c["chat"];
    SCOPED_TRACE(name + " " + chat);
    const auto ids = c["ids"].get<std::vector<int32_t>>();
    for (const char* kind : {"plain", "marked"}) {
      const bool plain = kind == std::string("plain");
      if (plain && (!c["plain"] || is_known_otherwise(name, chat))) continue;
      SCOPED_TRACE(kind);
      const EncodedConversation got = encode(golden["chats"][chat].dump(), golden["templates"][name][kind]);
      EXPECT_EQ(got.ids, ids);
      const std::string want = shown(EncodedConversation{ids, c["mask"].get<std::vector<int32_t>>(), {}});
      EXPECT_EQ(shown(got), plain ? as_generated(name, want) : want);
    }
    templates[chat].insert(name);
  }
  for (const char* chat : {"one", "turns", "same", "system", "empty", "reasoning", "call", "calls"})
    EXPECT_GE(templates[chat].size(), 10u) << chat;
}

TEST_F(Conversations, FormatsSayTheSame) {
  const std::string want = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Hello<|im_end|>\n]";
  EXPECT_EQ(
      shown(
          R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]})"),
      want);
  EXPECT_EQ(
      shown(R"({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]})"),
      want);
  EXPECT_EQ(shown(R"({"instruction": "Hi", "input": "", "output": "Hello"})"), want);
  EXPECT_EQ(shown(R"({"prompt": [{"role": "user", "content": "Hi"}],
                      "completion": [{"role": "assistant", "content": "Hello"}]})"),
            want);
  EXPECT_EQ(shown(R"({"prompt": "2 + 2 =", "completion": " 4"})"), "2 + 2 =[ 4<|im_end|>]");
  EXPECT_EQ(shown(R"({"prompt": "2 + 2 =", "completion": " 4<|im_end|>"})"), "2 + 2 =[ 4<|im_end|>]");
  EXPECT_EQ(shown(R"({"prompt": "2<|im_end|>", "completion": ""})"), "2<|im_end|>[<|im_end|>]");
  EXPECT_EQ(
      shown(
          R"({"instruction": "Add", "input": "1 2", "output": "3", "system": "S", "history": [["a", "b"]]})"),
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>\n]"
      "<|im_start|>user\nAdd\n1 2<|im_end|>\n<|im_start|>assistant\n[3<|im_end|>\n]");
}

// As `generate --prompt` reads a prompt.
TEST_F(Conversations, PlainTextsBeginAsTheTokenizerBeginsTexts) {
  const TemporaryFolder folder;
  std::filesystem::copy_file(kGolden + "text/llama3.json", folder.path + "/tokenizer.json");
  folder.put("tokenizer_config.json", R"({"eos_token": "<|endoftext|>"})");
  const std::shared_ptr<const text::Tokenizer> llama = text::load_tokenizer(folder.path);
  const ConversationEncoder encoder(llama, "", LearntPart::kAnswers);
  const EncodedConversation got = encoder.encode(
      parse_conversation(R"({"prompt": "2 + 2 =", "completion": " 4"})", ConversationFormat::kAuto));
  std::vector<int32_t> want = llama->encode("2 + 2 = 4", true);
  ASSERT_NE(want, llama->encode("2 + 2 = 4"));
  want.push_back(llama->eos());
  EXPECT_EQ(got.ids, want);
  EXPECT_EQ(std::accumulate(got.mask.begin(), got.mask.end(), 0), 3) << "blank, 4, end";
  EXPECT_EQ(got.mask.front(), 0);
}

TEST_F(Conversations, WhatIsLearntIsChosen) {
  const std::string two =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 1},
      {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})";
  EXPECT_EQ(
      shown(two, kChatml, LearntPart::kLastAnswer),
      "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
      "<|im_start|>assistant\n[d<|im_end|>\n]");
  EXPECT_EQ(shown(two, kChatml, LearntPart::kAll).front(), '[');
  const std::string first =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
      {"role": "user", "content": "c"}, {"role": "assistant", "content": "d", "weight": 0}]})";
  EXPECT_EQ(
      shown(first),
      "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>\n]<|im_start|>user\nc<|im_end|>\n"
      "<|im_start|>assistant\nd<|im_end|>\n");
}

// As Qwen3's does: reasoning stays in the last answer alone.
TEST_F(Conversations, AnswersThatATemplateWritesOtherwiseLaterAreFound) {
  const std::string thinking =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last "
      "%}<think>\n\n"
      "</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  EXPECT_EQ(
      shown(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
      {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})",
            thinking),
      "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>\n]<|im_start|>user\na<|im_end|>\n"
      "<|im_start|>assistant\n[<think>\n\n</think>\n\nb<|im_end|>\n]");
}

TEST_F(Conversations, BrokenRecordsSayWhy) {
  EXPECT_EQ(refusal("{"), "not JSON");
  EXPECT_EQ(refusal("[1]"), "not a JSON object");
  EXPECT_NE(refusal(R"({"text": "a"})").find("none of the keys"), std::string::npos);
  EXPECT_EQ(refusal(R"({"messages": []})"), "\"messages\" is not a list of messages");
  EXPECT_EQ(refusal(R"({"messages": [{"content": "a"}]})"), "messages[0].role must be a string");
  EXPECT_EQ(refusal(R"({"messages": [{"role": "user"}]})"), "messages[0].content is missing");
  EXPECT_EQ(refusal(R"({"messages": [{"role": "assistant", "content": null}]})"),
            "messages[0].content is null; an answer that is empty is \"\"");
  EXPECT_EQ(refusal(R"({"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]})"),
            "messages[0].weight is 0.5, expected 0 or 1");
  EXPECT_EQ(refusal(R"({"messages": [{"role": "user", "content": 5}]})"),
            "messages[0].content must be a string or a list of parts");
  EXPECT_EQ(refusal(R"({"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]})"),
            "prompt[0].content: parts of type 'image_url' are not supported, this model reads text");
  EXPECT_EQ(
      refusal(R"({"system": "s", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt"}]})"),
      "conversations[1] has no \"value\" that is a string");
  EXPECT_EQ(refusal("{\"messages\": " + std::string(100000, '[')), "JSON nested deeper than 128");
  EXPECT_NE(refusal(R"({"conversations": [{"from": "alien", "value": "a"}]})").find("'alien'"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"messages": [{"role": "user", "content": "a"}]})").find("is an answer to learn"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"messages": [{"role": "assistant", "content": "a"}]})",
                    "{{ raise_exception('users first') }}")
                .find("users first"),
            std::string::npos);
  EXPECT_NE(
      refusal(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})",
              "")
          .find("has no chat template"),
      std::string::npos);
}

// What the answer of our own server to a client with tools looks like, sent back with the tool's result.
constexpr const char* kCalling =
    "{% if tools %}{{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}({{ c.function.arguments | tojson "
    "}}){% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

TEST_F(Conversations, LoggedFromAServerAreLearntAsTheyAre) {
  EXPECT_EQ(shown(R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "Rain"},
      {"type": "text", "text": "in Oslo?"}]},
      {"role": "assistant", "content": null, "refusal": null, "reasoning_content": "ask", "tool_calls": [{"id": "call_1",
       "type": "function", "function": {"name": "rain", "arguments": "{\"city\": \"Oslo\"}"}}]},
      {"role": "tool", "tool_call_id": "call_1", "content": "yes"},
      {"role": "assistant", "content": "It rains.", "tool_calls": []}], "tools": []})",
                  kCalling),
            "<|im_start|>user\nRain\nin Oslo?<|im_end|>\n<|im_start|>assistant\n"
            "[<think>ask</think><tool_call>rain({\"city\": \"Oslo\"})<|im_end|>\n]"
            "<|im_start|>tool\nyes<|im_end|>\n<|im_start|>assistant\n[It rains.<|im_end|>\n]");
}

TEST_F(Conversations, OlderAndOtherNamesOfCallsAreKnown) {
  const std::string want =
      "[{\"type\": \"function\", \"function\": {\"name\": \"rain\"}}]\n"
      "<|im_start|>user\nRain?<|im_end|>\n<|im_start|>assistant\n[<tool_call>rain({\"city\": "
      "\"Oslo\"})<|im_end|>\n]"
      "<|im_start|>tool\nyes<|im_end|>\n<|im_start|>assistant\n[It rains.<|im_end|>\n]";
  EXPECT_EQ(shown(R"({"messages": [{"role": "user", "content": "Rain?", "name": null, "weight": null},
      {"role": "assistant", "content": null, "function_call": {"name": "rain", "arguments": "{\"city\": \"Oslo\"}"}},
      {"role": "function", "name": "rain", "content": "yes"}, {"role": "assistant", "content": "It rains.",
       "function_call": null, "tool_calls": null}],
      "functions": [{"name": "rain"}], "parallel_tool_calls": false})",
                  kCalling),
            want);
  EXPECT_EQ(shown(R"({"conversations": [{"from": "human", "value": "Rain?"},
      {"from": "function_call", "value": "{\"name\": \"rain\", \"arguments\": {\"city\": \"Oslo\"}}"},
      {"from": "observation", "value": "yes"}, {"from": "gpt", "value": "It rains."}],
      "tools": "[{\"type\": \"function\", \"function\": {\"name\": \"rain\"}}]"})",
                  kCalling),
            want);
  EXPECT_EQ(
      shown(
          R"({"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})"),
      "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>\n]");
}

// DeepSeek's templates show calls beside no content alone, and want their arguments as text; Llama 3's shows
// none.
TEST_F(Conversations, CallsAreWrittenAsTheTemplateReadsThem) {
  const Json golden = Json::parse(std::ifstream(kGolden + "data/conversations.json"));
  const std::string call = golden["chats"]["call"].dump();
  const std::string deepseek = shown(call, golden["templates"]["deepseek_r1_distill"]["plain"]);
  EXPECT_NE(deepseek.find("<｜Assistant｜>[<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
                          "rain\n```json\n{\"city\":"
                          "\"Oslo\"}\n```<｜tool▁call▁end｜>]"),
            std::string::npos)
      << deepseek;
  const std::string llama3 = golden["templates"]["llama3"]["plain"];
  EXPECT_EQ(refusal(call, llama3), "messages[1] is a call of a tool, which the chat template does not write");
  EXPECT_EQ(encode(golden["chats"]["calls"].dump(), llama3).notes,
            std::vector<std::string>{"answers whose calls of tools the chat template leaves out"});
  // As Llama 3.1's: the call alone.
  const EncodedConversation either = encode(
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "I look.", "tool_calls":
          [{"function": {"name": "f", "arguments": {}}}]}]})",
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% "
      "else %}"
      "{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
  EXPECT_EQ(shown(either),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[[{\"function\": {\"name\": \"f\", "
            "\"arguments\": {}}}]<|im_end|>\n]");
  EXPECT_EQ(either.notes, std::vector<std::string>{
                              "messages of role 'assistant' whose content the chat template leaves out"});
}

TEST_F(Conversations, WeightsCountInEveryFormat) {
  EXPECT_EQ(
      shown(R"({"conversations": [{"from": "human", "value": "a", "weight": null},
      {"from": "gpt", "value": "b", "weight": 0}, {"from": "human", "value": "c"}, {"from": "gpt", "value": "d",
       "weight": 1.0}]})"),
      "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
      "<|im_start|>assistant\n[d<|im_end|>\n]");
}

TEST_F(Conversations, PreferenceDataIsRefused) {
  const std::string message = R"([{"role": "assistant", "content": "a"}])";
  for (const std::string rest : {R"("prompt": "q")", R"("instruction": "q", "input": "")",
                                 R"("conversations": [{"from": "human", "value": "q"}])"})
    EXPECT_NE(refusal("{" + rest + ", \"chosen\": " + message + ", \"rejected\": " + message + "}")
                  .find("preference data"),
              std::string::npos)
        << rest;
  EXPECT_NE(refusal(R"({"prompt": "q", "completion": "a", "label": false})").find("preference data"),
            std::string::npos);
  EXPECT_EQ(shown(R"({"prompt": "q", "completion": "a", "label": true})"), "q[a<|im_end|>]");
  EXPECT_EQ(shown("{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, " + message.substr(1) +
                  ", \"chosen\": " + message + ", \"rejected\": " + message + "}"),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[a<|im_end|>\n]");
}

// As TRL: the model learns to end at once.
TEST_F(Conversations, EmptyAnswersAreLearntAndNotedInEveryFormat) {
  for (
      const char* record :
      {R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]})",
       R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": []}]})",
       R"({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": ""}]})",
       R"({"instruction": "a", "output": ""})",
       R"({"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": ""}]})"}) {
    const EncodedConversation encoded = encode(record, kChatml);
    EXPECT_EQ(shown(encoded), "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[<|im_end|>\n]")
        << record;
    EXPECT_EQ(encoded.notes, std::vector<std::string>{"answers that are empty, whose end is learnt"});
  }
  const EncodedConversation plain = encode(R"({"prompt": "a", "completion": ""})", "");
  EXPECT_EQ(shown(plain), "a[<|im_end|>]");
  EXPECT_EQ(plain.notes.size(), 1u);
  EXPECT_TRUE(
      encode(
          R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "weight": 0},
      {"role": "user", "content": ""}, {"role": "assistant", "content": "b"}]})",
          kChatml)
          .notes.empty());
}

TEST_F(Conversations, RolesThatNobodyKnowsAreNotedOrRefused) {
  const std::string wizard =
      R"({"messages": [{"role": "wizard", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";
  const EncodedConversation told = encode(wizard, kChatml);
  EXPECT_EQ(shown(told),
            "<|im_start|>wizard\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_"
            "end|>\n]");
  EXPECT_EQ(told.notes,
            std::vector<std::string>{"messages of role 'wizard', which are not taken for answers"});
  // Writes two roles and passes over others, in silence.
  const std::string two =
      "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}<|im_start|>{{ m.role }}\n{{ m.content "
      "}}<|im_end|>\n{% endif %}{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  EXPECT_EQ(refusal(wizard, two),
            "messages[0].role is 'wizard', which the chat template leaves out; it may be system, developer, "
            "user, assistant, "
            "tool");
  const EncodedConversation developer = encode(
      R"({"messages": [{"role": "developer", "content": "a"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})",
      two);
  EXPECT_EQ(developer.notes, std::vector<std::string>{
                                 "messages of role 'developer' whose content the chat template leaves out"});
  EXPECT_TRUE(encode(R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"},
      {"role": "assistant", "content": "b"}]})",
                     kChatml)
                  .notes.empty());
}

TEST_F(Conversations, ArePreprocessedWithTheirMasksAndShown) {
  set_log_level(LogLevel::kQuiet);
  PreprocessOptions job;
  job.inputs = {folder_.put(
      "chats.jsonl",
      R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
{"messages": 7}
{"conversations": [{"from": "human", "value": "Bye"}, {"from": "gpt", "value": "So long"}]}
{"prompt": "x", "completion": ""}
{"instruction": "x", "output": ""}
)")};
  job.output_prefix = folder_.path + "/chats";
  job.conversations = std::make_shared<ConversationEncoder>(tokenizer_, kChatml, LearntPart::kAnswers);
  job.format = InputFormat::kRecords;
  job.keys = {"text", "loss_mask"};
  job.vocab_size = tokenizer_->vocab_size();
  try {
    preprocess(job);
    FAIL() << "the broken record went through";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("chats.jsonl:2: \"messages\" is not a list"), std::string::npos)
        << error.what();
  }
  job.skip_broken = true;
  const PreprocessReport report = preprocess(job);
  set_log_level(LogLevel::kInfo);
  EXPECT_EQ(report.documents, 4);
  EXPECT_EQ(report.skipped, 1);
  ASSERT_EQ(report.notes.size(), 1u);
  EXPECT_EQ(report.notes[0].count, 2);
  EXPECT_EQ(report.notes[0].first, folder_.path + "/chats.jsonl:4");
  EXPECT_NE(to_json(report).find("\"notes\":[{\"count\":2,\"first\":"), std::string::npos) << to_json(report);
  const auto documents = first_documents(folder_.path + "/chats_text_document", 2, 48,
                                         [&](auto ids) { return tokenizer_->decode(ids, false); });
  EXPECT_EQ(report.learnt, documents[0].learnt + documents[1].learnt + 3);
  EXPECT_EQ(
      to_text(documents),
      fmt::format("0: {} tokens, {} of them learnt:\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
                  "⟦Hello<|im_end|>\n⟧\n\n1: {} tokens, {} of them learnt:\n<|im_start|>user\nBye<|im_end|>\n"
                  "<|im_start|>assistant\n⟦So long<|im_end|>\n⟧\n\n",
                  documents[0].tokens, documents[0].learnt, documents[1].tokens, documents[1].learnt));
  EXPECT_NE(to_text(documents, true).find("\x1b[32mHello<|im_end|>\n\x1b[0m"), std::string::npos);
}

}  // namespace
}  // namespace flagscale::data
