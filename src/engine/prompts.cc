#include "engine/prompts.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flagscale::engine {

using Json = nlohmann::ordered_json;

std::vector<Prompt> read_prompts(const std::string& file) {
  std::ifstream in(file);
  if (!in) fail(ErrorKind::kNotFound, "cannot read {}", file);
  std::vector<Prompt> prompts;
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    Prompt prompt;
    prompt.where = fmt::format("{}:{}", file, number);
    const auto json = Json::parse(line, nullptr, false);
    if (json.is_object() && json.contains("prompt") && json["prompt"].is_string())
      prompt.text = json["prompt"];
    else if (json.is_object() && json.contains("messages") && json["messages"].is_array())
      prompt.messages = json["messages"].dump();
    else
      fail(ErrorKind::kInvalidArgument, "{}: expected {{\"prompt\": \"...\"}} or {{\"messages\": [...]}}",
           prompt.where);
    prompts.push_back(std::move(prompt));
  }
  if (prompts.empty()) fail(ErrorKind::kInvalidArgument, "{} holds no prompt", file);
  return prompts;
}

Prompt chat_prompt(const std::string& message, const std::string& system) {
  Json messages = Json::array();
  if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
  messages.push_back({{"role", "user"}, {"content", message}});
  try {
    return {"", messages.dump(), "--chat"};
  } catch (const nlohmann::json::exception&) {
    fail(ErrorKind::kInvalidArgument, "--chat is not UTF-8");
  }
}

std::vector<int32_t> encode(const Prompt& prompt, const text::Tokenizer& tokenizer) {
  try {
    if (prompt.messages.empty()) return tokenizer.encode(prompt.text, true);
    if (!tokenizer.has_chat_template())
      fail(ErrorKind::kInvalidArgument, "{} has no chat template: give a plain prompt", tokenizer.source());
    return tokenizer.encode(tokenizer.chat_template().render({prompt.messages, {}, {}, true}), false);
  } catch (const Error&) {
    rethrow_with(prompt.where);
  }
}

std::string output_text(const Answer& answer, const text::Tokenizer& tokenizer) {
  std::vector<int32_t> ids = answer.ids();
  if (answer.finish == FinishReason::kStop && !ids.empty()) ids.pop_back();
  return tokenizer.decode(ids);
}

std::string generated_json(const std::vector<int32_t>& prompt, const Answer& answer,
                           const text::Tokenizer& tokenizer) {
  return Json{{"text", output_text(answer, tokenizer)},
              {"prompt_token_ids", prompt},
              {"token_ids", answer.ids()},
              {"finish_reason", name(answer.finish)}}
      .dump();
}

std::string scored_json(const std::vector<int32_t>& prompt, const Answer& answer) {
  double sum = 0;
  Json logprobs = Json::array();
  for (const OutputToken& token : answer.prompt) {
    sum += static_cast<double>(token.logprob);
    logprobs.push_back(token.logprob);
  }
  const auto count = static_cast<double>(answer.prompt.size());
  Json json{{"prompt_token_ids", prompt}, {"logprobs", std::move(logprobs)}};
  json["perplexity"] = count > 0 ? Json(std::exp(-sum / count)) : Json();
  return json.dump();
}

}  // namespace flagscale::engine
