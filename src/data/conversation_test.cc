// Conversations to ids and masks, against transformers' own masks of real models' templates
// (tests/golden/data/conversations.json), and what is wrong with a record.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
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

// TRL's marks of three templates hold a piece of the generation prompt, which a model is given and does not
// write.
void move_header_out(const std::string& name, std::string& text) {
  const std::string header = name.starts_with("deepseek") ? "<｜Assistant｜>" : name == "qwen2_5" ? "\n" : "";
  for (size_t at = 0; !header.empty() && (at = text.find("[" + header, at)) != std::string::npos;
       at += header.size() + 1)
    text.replace(at, header.size() + 1, header + "[");
}

TEST_F(Conversations, MasksAreTransformersOwn) {
  const Json golden = Json::parse(std::ifstream(kGolden + "data/conversations.json"));
  std::set<std::string> templates;
  for (const Json& c : golden["cases"]) {
    const std::string name = c["template"];
    SCOPED_TRACE(name + " " + c["chat"].get<std::string>());
    const std::string record = Json{{"messages", golden["chats"][c["chat"].get<std::string>()]}}.dump();
    for (const char* kind : {"plain", "marked"}) {
      SCOPED_TRACE(kind);
      const EncodedConversation got = encode(record, golden["templates"][name][kind]);
      EXPECT_EQ(got.ids, c["ids"].get<std::vector<int32_t>>());
      std::string want = shown(
          EncodedConversation{c["ids"].get<std::vector<int32_t>>(), c["mask"].get<std::vector<int32_t>>()});
      if (kind == std::string("plain")) move_header_out(name, want);
      EXPECT_EQ(shown(got), want);
    }
    templates.insert(name);
  }
  EXPECT_GE(templates.size(), 10u);
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
  EXPECT_EQ(
      shown(
          R"({"instruction": "Add", "input": "1 2", "output": "3", "system": "S", "history": [["a", "b"]]})"),
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>\n]"
      "<|im_start|>user\nAdd\n1 2<|im_end|>\n<|im_start|>assistant\n[3<|im_end|>\n]");
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
  EXPECT_EQ(refusal(R"({"messages": [{"content": "a"}]})"), "message 0 has no \"role\"");
  EXPECT_EQ(refusal(R"({"messages": [{"role": "user"}]})"), "message 0 has no \"content\"");
  EXPECT_EQ(refusal(R"({"messages": [{"role": "user", "content": 5}]})"),
            "message 0: \"content\" is neither a string nor a list");
  EXPECT_EQ(
      refusal(R"({"system": "s", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt"}]})"),
      "message 1 has no \"value\" that is a string");
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

TEST_F(Conversations, ArePreprocessedWithTheirMasksAndShown) {
  set_log_level(LogLevel::kQuiet);
  PreprocessOptions job;
  job.inputs = {folder_.put(
      "chats.jsonl",
      R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
{"messages": 7}
{"conversations": [{"from": "human", "value": "Bye"}, {"from": "gpt", "value": "So long"}]}
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
  EXPECT_EQ(report.documents, 2);
  EXPECT_EQ(report.skipped, 1);
  const auto documents = first_documents(folder_.path + "/chats_text_document", 2, 48,
                                         [&](auto ids) { return tokenizer_->decode(ids, false); });
  EXPECT_EQ(report.learnt, documents[0].learnt + documents[1].learnt);
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
