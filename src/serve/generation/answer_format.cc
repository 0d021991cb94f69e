#include "serve/generation/answer_format.h"

#include <fmt/format.h>

#include <chrono>
#include <random>

#include "serve/json.h"

namespace flagscale::serve {

namespace {

std::string stop_reason(const Choice& choice) {
  if (!choice.stop_text().empty()) return json_string(choice.stop_text());
  return choice.stop_id() >= 0 ? std::to_string(choice.stop_id()) : "null";
}

std::string text_or_null(const std::string& text) { return text.empty() ? "null" : json_string(text); }

std::string open_object(const AnswerName& name, const char* object) {
  return fmt::format("{{\"id\":{},\"object\":\"{}\",\"created\":{},\"model\":{},", json_string(name.id),
                     object, name.created, json_string(name.model));
}

// With stream_options.include_usage every chunk has the field.
std::string chunk_usage(const Usage* usage, bool include) {
  if (usage) return ",\"usage\":" + usage->json();
  return include ? ",\"usage\":null" : "";
}

class ChatFormat final : public AnswerFormat {
 public:
  ChatFormat(const text::Tokenizer& tokenizer, AnswerName name, ChatStyle style)
      : tokenizer_(tokenizer),
        style_(std::move(style)),
        chunk_(open_object(name, "chat.completion.chunk")),
        whole_(open_object(name, "chat.completion")) {}

  std::string opening(const Choice& choice) override {
    return chunk_ + fmt::format(
                        "\"choices\":[{{\"index\":{},\"delta\":{{\"role\":\"assistant\",\"content\":{}}},"
                        "\"logprobs\":null,\"finish_reason\":null}}]{}}}",
                        choice.index(), json_string(style_.opening_text),
                        chunk_usage(nullptr, style_.include_usage));
  }

  std::string chunk(Choice& choice, const Usage* usage) override {
    const Delta delta = choice.take_delta();
    const auto tokens = choice.take_tokens();
    std::string text =
        chunk_ +
        fmt::format(
            "\"choices\":[{{\"index\":{},\"delta\":{{{}}},\"logprobs\":{},\"finish_reason\":{}",
            choice.index(), delta_fields(delta),
            style_.logprobs && !tokens.empty() ? chat_logprobs(tokenizer_, tokens, style_.style) : "null",
            finish(choice));
    if (choice.finished()) text += ",\"stop_reason\":" + stop_reason(choice);
    text += "}]";
    return text + chunk_usage(usage, style_.include_usage) + "}";
  }

  std::string usage_chunk(const Usage& usage) override {
    return chunk_ + "\"choices\":[],\"usage\":" + usage.json() + "}";
  }

  std::string whole(const std::vector<Choice*>& choices, const Usage& usage,
                    const std::vector<std::vector<engine::OutputToken>>& prompts) override {
    std::string text = whole_ + "\"choices\":[";
    for (Choice* choice : choices) {
      if (choice != choices[0]) text += ',';
      const Delta delta = choice->take_delta();
      const auto tokens = choice->take_tokens();
      text += fmt::format(
          "{{\"index\":{},\"message\":{{{}}},\"logprobs\":{},\"finish_reason\":{},\"stop_reason\":{}}}",
          choice->index(), message_fields(delta),
          style_.logprobs ? chat_logprobs(tokenizer_, tokens, style_.style) : "null", finish(*choice),
          stop_reason(*choice));
    }
    text += "],\"usage\":" + usage.json();
    if (style_.prompt_logprobs) text += ",\"prompt_logprobs\":" + prompt_logprobs(tokenizer_, prompts.at(0));
    return text + "}";
  }

 private:
  std::string finish(const Choice& choice) const {
    if (!choice.finished()) return "null";
    return choice.called() && !style_.named_tool && choice.finish_reason() == "stop"
               ? "\"tool_calls\""
               : json_string(choice.finish_reason());
  }
  std::string reasoning_fields(
      const std::string& reasoning) const {  // the name it had first, and vLLM's new one
    if (reasoning.empty() || !style_.include_reasoning) return {};
    const std::string text = json_string(reasoning);
    return "\"reasoning_content\":" + text + ",\"reasoning\":" + text;
  }
  std::string delta_fields(const Delta& delta) const {
    std::string text = reasoning_fields(delta.reasoning);
    const auto part = [&](const std::string& field) { text += (text.empty() ? "" : ",") + field; };
    if (!delta.content.empty()) part("\"content\":" + json_string(delta.content));
    if (delta.calls.empty()) return text;
    std::string calls;
    for (const CallDelta& call : delta.calls) {
      calls += fmt::format("{}{{\"index\":{}", calls.empty() ? "" : ",", call.index);
      if (!call.id.empty()) calls += fmt::format(",\"id\":{},\"type\":\"function\"", json_string(call.id));
      calls += ",\"function\":{";
      if (!call.name.empty()) calls += "\"name\":" + json_string(call.name) + ",";
      calls += "\"arguments\":" + json_string(call.arguments) + "}}";
    }
    part("\"tool_calls\":[" + calls + "]");
    return text;
  }
  std::string message_fields(const Delta& delta) const {
    const bool no_text = style_.opening_text.empty() && delta.content.empty() && !delta.calls.empty();
    std::string text = fmt::format("\"role\":\"assistant\",\"content\":{},\"refusal\":null",
                                   no_text ? "null" : json_string(style_.opening_text + delta.content));
    if (const std::string reasoning = reasoning_fields(delta.reasoning); !reasoning.empty())
      text += "," + reasoning;
    if (delta.calls.empty()) return text;
    text += ",\"tool_calls\":[";
    for (const CallDelta& call : delta.calls)
      text +=
          fmt::format("{}{{\"id\":{},\"type\":\"function\",\"function\":{{\"name\":{},\"arguments\":{}}}}}",
                      &call == &delta.calls[0] ? "" : ",", json_string(call.id), json_string(call.name),
                      json_string(call.arguments));
    return text + "]";
  }

  const text::Tokenizer& tokenizer_;
  const ChatStyle style_;
  const std::string chunk_, whole_;
};

class CompletionFormat final : public AnswerFormat {
 public:
  CompletionFormat(const text::Tokenizer& tokenizer, AnswerName name, CompletionStyle style)
      : tokenizer_(tokenizer), style_(style), open_(open_object(name, "text_completion")) {}

  std::string opening(const Choice&) override { return {}; }
  std::string chunk(Choice& choice, const Usage* usage) override {
    std::string text = open_ + "\"choices\":[" + one(choice) + "}]";
    return text + chunk_usage(usage, style_.include_usage) + "}";
  }
  std::string usage_chunk(const Usage& usage) override {
    return open_ + "\"choices\":[],\"usage\":" + usage.json() + "}";
  }
  std::string whole(const std::vector<Choice*>& choices, const Usage& usage,
                    const std::vector<std::vector<engine::OutputToken>>& prompts) override {
    std::string text = open_ + "\"choices\":[";
    for (Choice* choice : choices) {
      if (choice != choices[0]) text += ',';
      text += one(*choice);
      if (style_.prompt_logprobs)
        text += ",\"prompt_logprobs\":" +
                prompt_logprobs(tokenizer_,
                                prompts.at(static_cast<size_t>(choice->index() / style_.choices_per_prompt)));
      text += '}';
    }
    return text + "],\"usage\":" + usage.json() + "}";
  }

 private:
  std::string one(Choice& choice) {  // left open
    const Delta delta = choice.take_delta();
    const auto tokens = choice.take_tokens();
    return fmt::format(
        "{{\"index\":{},\"text\":{},\"logprobs\":{},\"finish_reason\":{},\"stop_reason\":{}", choice.index(),
        json_string(delta.content),
        style_.logprobs ? completion_logprobs(tokenizer_, tokens, style_.style, choice.text_offset) : "null",
        text_or_null(choice.finish_reason()), stop_reason(choice));
  }

  const text::Tokenizer& tokenizer_;
  const CompletionStyle style_;
  const std::string open_;
};

}  // namespace

std::string Usage::json() const {
  return fmt::format(
      "{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{},\"prompt_tokens_details\":{{"
      "\"cached_tokens\":{}}}}}",
      prompt_tokens, completion_tokens, prompt_tokens + completion_tokens, cached_tokens);
}

std::unique_ptr<AnswerFormat> chat_format(const text::Tokenizer& tokenizer, AnswerName name,
                                          ChatStyle style) {
  return std::make_unique<ChatFormat>(tokenizer, std::move(name), std::move(style));
}
std::unique_ptr<AnswerFormat> completion_format(const text::Tokenizer& tokenizer, AnswerName name,
                                                CompletionStyle style) {
  return std::make_unique<CompletionFormat>(tokenizer, std::move(name), style);
}

std::string random_id(size_t length) {
  thread_local std::mt19937_64 random{std::random_device{}()};
  static constexpr std::string_view kLetters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  std::string id;
  for (size_t i = 0; i < length; ++i) id += kLetters[random() % kLetters.size()];
  return id;
}

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace flagscale::serve
