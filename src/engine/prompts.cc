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
    if (json.is_object() && json.contains("prompt") && json["prompt"].is_string()) prompt.text = json["prompt"];
    else if (json.is_object() && json.contains("messages") && json["messages"].is_array()) prompt.messages = json["messages"].dump();
    else fail(ErrorKind::kInvalidArgument, "{}: expected {{\"prompt\": \"...\"}} or {{\"messages\": [...]}}", prompt.where);
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

std::string output_text(const Sequence& sequence, const text::Tokenizer& tokenizer) {
  std::vector<int32_t> output = sequence.output();
  if (sequence.finished == FinishReason::kStop && !output.empty()) output.pop_back();
  return tokenizer.decode(output);
}

std::string generated_json(const Sequence& sequence, const text::Tokenizer& tokenizer) {
  return Json{{"text", output_text(sequence, tokenizer)},
              {"prompt_token_ids", sequence.request.prompt},
              {"token_ids", sequence.output()},
              {"finish_reason", name(sequence.finished)}}.dump();
}

std::string scored_json(const Sequence& sequence) {
  double sum = 0;
  for (const float p : sequence.prompt_logprobs) sum += static_cast<double>(p);
  const auto count = static_cast<double>(sequence.prompt_logprobs.size());
  Json json{{"prompt_token_ids", sequence.request.prompt}, {"logprobs", sequence.prompt_logprobs}};
  json["perplexity"] = count > 0 ? Json(std::exp(-sum / count)) : Json();
  return json.dump();
}

}  // namespace flagscale::engine
