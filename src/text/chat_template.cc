#include "text/chat_template.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/rust_library.h"

namespace flagscale::text {

using Json = nlohmann::ordered_json;

struct ChatTemplate::Handle {
  ~Handle() { fs_template_free(compiled); }
  FsTemplate* compiled = nullptr;
  Json variables = Json::object();
};

namespace {

Json parsed(std::string_view json, const char* what, bool list) {
  constexpr int kMostDepth = 100;  // dump() recurses, and Rust's parser goes no deeper than 128
  int deepest = 0;
  const Json::parser_callback_t see_depth = [&](int depth, Json::parse_event_t, Json&) {
    deepest = std::max(deepest, depth);
    return true;
  };
  Json value = Json::parse(json, see_depth, false);
  if (value.is_discarded()) fail(ErrorKind::kInvalidArgument, "{} is not JSON", what);
  if (deepest > kMostDepth)
    fail(ErrorKind::kInvalidArgument, "{}: JSON nested deeper than {}", what, kMostDepth);
  if (list ? !value.is_array() : !value.is_object())
    fail(ErrorKind::kInvalidArgument, "{} must be a JSON {}", what, list ? "list" : "object");
  return value;
}

// Rust's parser looks inside: here it only must be JSON of the right kind, since it is put into a larger
// text.
std::string checked(std::string_view json, const char* what, bool list) {
  parsed(json, what, list);
  return std::string(json);
}

// A message's reasoning goes by several names; as in transformers, templates find it under both of theirs.
bool name_reasoning(Json& message) {
  if (!message.is_object()) return false;
  for (const char* key : {"reasoning_content", "thinking", "reasoning"}) {
    if (!message.contains(key) || message[key].is_null()) continue;
    const Json reasoning = message[key];
    if (!message.contains("thinking")) message["thinking"] = reasoning;
    message["reasoning_content"] = reasoning;
    return true;
  }
  return false;
}

std::string messages_json(std::string_view json) {
  Json messages = parsed(json, "messages", true);
  bool changed = false;
  for (Json& message : messages) changed |= name_reasoning(message);
  return changed ? messages.dump() : std::string(json);
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source,
                           const std::vector<std::pair<std::string, std::string>>& variables)
    : handle_(std::make_unique<Handle>()) {
  for (const auto& [name, value] : variables) handle_->variables[name] = value;
  RustBuffer error;
  const FsStatus status = fs_template_new(bytes_of(source), source.size(), &handle_->compiled, error.out());
  check_rust(status, error, "chat template", RustFault::kCorruptFile);
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;

std::string ChatTemplate::render(const ChatInput& input) const {
  std::string context = "{\"messages\":" + messages_json(input.messages);
  context += ",\"add_generation_prompt\":";
  context += input.add_generation_prompt ? "true" : "false";
  // Defined and none where there are none, as in transformers.
  context += ",\"documents\":null,\"tools\":";
  context += input.tools.empty() ? "null" : checked(input.tools, "tools", true);
  // Tokens of a vocabulary are any bytes.
  const std::string variables = handle_->variables.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (variables.size() > 2) context += "," + variables.substr(1, variables.size() - 2);
  if (!input.extra.empty()) {
    // Later keys win.
    const std::string extra = checked(input.extra, "the template's variables", false);
    const size_t open = extra.find('{'), close = extra.rfind('}');
    if (extra.find_first_not_of(" \t\r\n", open + 1) != close)
      context += "," + extra.substr(open + 1, close - open - 1);
  }
  context += '}';
  RustBuffer text;
  const FsStatus status =
      fs_template_render(handle_->compiled, bytes_of(context), context.size(), text.out());
  if (status == 2)
    fail(ErrorKind::kInvalidArgument, "the chat template refuses these messages: {}", text.view());
  check_rust(status, text, "chat template", RustFault::kInvalidArgument);
  return std::string(text.view());
}

}  // namespace flagscale::text
