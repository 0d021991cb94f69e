#include "text/messages.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/json_bounds.h"

namespace flagscale::text {

using Json = nlohmann::ordered_json;

namespace {

template <class... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) {
  fail(ErrorKind::kInvalidArgument, format, std::forward<Args>(args)...);
}

std::string short_text(const Json& text) {  // names come from peers
  return text.get_ref<const std::string&>().substr(0, 64);
}

std::string text_of_parts(const Json& parts, const std::string& where) {
  std::string text;
  for (const Json& part : parts) {
    if (!text.empty()) text += '\n';
    if (part.is_string()) {
      text += part.get_ref<const std::string&>();
      continue;
    }
    const auto type = part.is_object() ? part.find("type") : part.end();
    if (!part.is_object() || type == part.end() || !type->is_string())
      refuse("{}.content: each part must be an object with a type", where);
    if (*type != "text" && *type != "input_text" && *type != "output_text")
      refuse("{}.content: parts of type '{}' are not supported, this model reads text", where,
             short_text(*type));
    const auto inner = part.find("text");
    if (inner == part.end() || !inner->is_string())
      refuse("{}.content: a part of type {} has no text", where, short_text(*type));
    text += inner->get_ref<const std::string&>();
  }
  return text;
}

void prepare_calls(Json& calls, const std::string& where) {
  if (!calls.is_array()) refuse("{}.tool_calls must be a list", where);
  for (Json& call : calls) {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object())
      refuse("{}.tool_calls: a call has no function", where);
    Json& function = call["function"];
    const auto name = function.find("name");
    if (name == function.end() || !name->is_string()) refuse("{}.tool_calls: a function has no name", where);
    const auto arguments = function.find("arguments");
    if (arguments == function.end() || !arguments->is_string()) continue;
    const auto& text = arguments->get_ref<const std::string&>();
    if (find_excess(text, {}))
      refuse("{}.tool_calls: the arguments of '{}' are nested too deep or have too many keys", where,
             short_text(*name));
    Json value = text.empty() ? Json::object() : Json::parse(text, nullptr, false);
    if (value.is_discarded())
      refuse("{}.tool_calls: the arguments of '{}' are not JSON", where, short_text(*name));
    *arguments = std::move(value);
  }
}

bool has_reasoning(const Json& message) {
  for (const char* key : kReasoningKeys)
    if (const auto it = message.find(key); it != message.end() && !it->is_null()) return true;
  return false;
}

}  // namespace

void prepare_message(Json& message, const std::string& where) {
  if (!message.is_object()) refuse("{} must be an object with role and content", where);
  const auto role = message.find("role");
  if (role == message.end() || !role->is_string()) refuse("{}.role must be a string", where);
  if (const auto calls = message.find("tool_calls"); calls != message.end()) {
    if (calls->is_null() || (calls->is_array() && calls->empty()))
      message.erase(calls);
    else
      prepare_calls(*calls, where);
  }
  const auto content = message.find("content");
  if (content == message.end()) {
    if (!message.contains("tool_calls") && !has_reasoning(message)) refuse("{}.content is missing", where);
    message["content"] = "";
  } else if (content->is_array()) {
    *content = text_of_parts(*content, where);
  } else if (content->is_null()) {
    *content = "";
  } else if (!content->is_string()) {
    refuse("{}.content must be a string or a list of parts", where);
  }
}

}  // namespace flagscale::text
