#include "serve/generation/prompt.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "serve/api_error.h"

namespace flagscale::serve {

namespace {

// No vocabulary has tokens of more bytes on average: text beyond this is not worth tokenising.
constexpr size_t kMostBytesPerToken = 256;

void check_length(const ServedModel& model, size_t bytes) {
  if (bytes / kMostBytesPerToken > static_cast<size_t>(model.limits.max_model_len))
    throw ApiError(
        400,
        fmt::format(
            "This model's maximum context length is {} tokens. The prompt's {} bytes of text are more.",
            model.limits.max_model_len, bytes),
        {}, "context_length_exceeded");
}

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n"), last = text.find_last_not_of(" \t\r\n");
  return first == std::string::npos ? std::string() : text.substr(first, last - first + 1);
}

// The rendered text up to the end of the last message's content.
void cut_after_last_message(std::string& text, const std::string& messages) {
  const Json list = Json::parse(messages);
  const Json& content = list.back()["content"];
  const std::string last = content.is_string() ? trimmed(content.get<std::string>()) : std::string();
  const size_t at = last.empty() ? std::string::npos : text.rfind(last);
  if (at == std::string::npos)
    throw ApiError(400, "continue_final_message: the template does not show the last message's content",
                   "continue_final_message");
  text.resize(at + last.size());
}

bool ends_with_open_thought(const std::string& text) {
  const size_t last = text.find_last_not_of(" \t\r\n");
  return last != std::string::npos && std::string_view(text).substr(0, last + 1).ends_with("<think>");
}

}  // namespace

ChatPrompt chat_prompt(const ServedModel& model, const ChatRequest& request) {
  text::ChatInput input;
  input.messages = request.messages;
  input.prepared = true;
  if (request.tool_choice != ChatRequest::ToolChoice::kNone) input.tools = request.tools;
  input.extra = request.template_variables;
  input.add_generation_prompt = request.add_generation_prompt && !request.continue_final_message;
  std::string text = model.chat_template().render(input);
  if (request.continue_final_message) cut_after_last_message(text, request.messages);
  check_length(model, text.size());
  ChatPrompt prompt;
  prompt.ids = model.tokenizer().encode(text, request.add_special_tokens);
  if (prompt.ids.empty()) throw ApiError(400, "the prompt is empty", "messages");
  truncate(prompt.ids, request.truncate_prompt_tokens,
           model.limits.max_model_len - request.max_tokens.value_or(1));
  prompt.inside_reasoning = ends_with_open_thought(text);
  return prompt;
}

std::vector<int32_t> prompt_ids(const ServedModel& model, const PromptInput& prompt, bool add_special,
                                const char* field) {
  if (!prompt.is_ids) {
    check_length(model, prompt.text.size());
    auto ids = model.tokenizer().encode(prompt.text, add_special);
    if (ids.empty()) refuse(field, "the {} is empty", field);
    return ids;
  }
  if (prompt.ids.empty()) refuse(field, "the {} is empty", field);
  for (const int32_t id : prompt.ids)
    if (id >= model.limits.vocab_size)
      refuse(field, "token id {} is not in the vocabulary of {}", id, model.limits.vocab_size);
  return prompt.ids;
}

void truncate(std::vector<int32_t>& ids, const std::optional<int64_t>& keep, int64_t room) {
  if (!keep) return;
  const int64_t most = *keep > 0 ? *keep : std::max<int64_t>(room, 1);
  if (most < static_cast<int64_t>(ids.size())) ids.erase(ids.begin(), ids.end() - most);
}

}  // namespace flagscale::serve
