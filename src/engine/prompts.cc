#include "engine/prompts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/nearest.h"
#include "base/text_encoding.h"
#include "text/messages.h"

namespace flagscale::engine {

using Json = nlohmann::ordered_json;

namespace {

Json parse_line(const std::string& line, const std::string& where) {
  try {
    return Json::parse(line);
  } catch (const Json::exception& error) {
    const std::string why = error.what();  // "[json...] parse error at line 1, column 9: syntax error ..."
    if (why.find("ill-formed UTF-8") != std::string::npos)
      fail(ErrorKind::kInvalidArgument, "{}: not valid UTF-8", where);
    const size_t at = why.find("syntax error");
    fail(ErrorKind::kInvalidArgument, "{}: not JSON: {}", where,
         why.substr(at == std::string::npos ? 0 : at));
  }
}

Prompt prompt_of(const Json& json, const std::string& where) {
  static const std::vector<std::string> kKeys{"prompt", "messages"};
  const auto refuse = [&](const std::string& why) {
    fail(ErrorKind::kInvalidArgument, "{}: {}expected {{\"prompt\": \"...\"}} or {{\"messages\": [...]}}",
         where, why);
  };
  if (!json.is_object()) refuse("");
  for (const auto& [key, value] : json.items()) {
    const std::string meant = nearest(key, kKeys);
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end())
      refuse(fmt::format("\"{}\" is no key of a prompt{}; ", key,
                         meant.empty() ? " (what to sample is in the command's options)"
                                       : fmt::format(", did you mean \"{}\"?", meant)));
  }
  if (json.size() > 1) refuse("both \"prompt\" and \"messages\"; ");
  if (json.contains("prompt") && json["prompt"].is_string()) return {json["prompt"], {}, where};
  if (!json.contains("messages") || !json["messages"].is_array()) refuse("");
  Json messages = json["messages"];
  for (size_t i = 0; i < messages.size(); ++i)
    text::prepare_message(messages[i], fmt::format("{}: messages[{}]", where, i));
  return {{}, messages.dump(), where};
}

}  // namespace

std::vector<Prompt> read_prompts(const std::string& file) {
  if (std::filesystem::is_directory(file))
    fail(ErrorKind::kInvalidArgument, "--prompts {} is a folder: name a file of JSON lines", file);
  std::ifstream in(file);
  if (!in) fail(ErrorKind::kNotFound, "cannot read {}: {}", file, std::strerror(errno));
  refuse_file_of_other_encoding(file);
  std::vector<Prompt> prompts;
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = fmt::format("{}:{}", file, number);
    prompts.push_back(prompt_of(parse_line(line, where), where));
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
    return tokenizer.encode(tokenizer.chat_template().render(
                                {.messages = prompt.messages, .tools = {}, .extra = {}, .prepared = true}),
                            false);
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
