#include "text/chat_template.h"

#include <cstdint>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/json_bounds.h"
#include "text/messages.h"
#include "text/rust_library.h"

namespace flagscale::text {

using Json = nlohmann::ordered_json;

// How a template reads a message that calls. DeepSeek's show calls beside no content alone, not beside an
// empty one, and add arguments to texts; most add the content and want arguments as JSON.
struct CallStyle {
  bool shown = false, null_content = false, text_arguments = false;
};

struct ChatTemplate::Handle {
  ~Handle() { fs_template_free(compiled); }
  FsTemplate* compiled = nullptr;
  Json variables = Json::object();
  std::once_flag tried;
  CallStyle style;  // once it was tried
};

namespace {

constexpr int kMostDepth = 100;  // dump() recurses, and Rust's parser goes no deeper than 128

Json parsed(std::string_view json, const char* what, bool list) {
  if (find_excess(json, {.depth = kMostDepth, .keys = SIZE_MAX}))
    fail(ErrorKind::kInvalidArgument, "{}: JSON nested deeper than {}", what, kMostDepth);
  Json value = Json::parse(json, nullptr, false);
  if (value.is_discarded()) fail(ErrorKind::kInvalidArgument, "{} is not JSON", what);
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
  for (const char* key : kReasoningKeys) {
    if (!message.contains(key) || message[key].is_null()) continue;
    const Json reasoning = message[key];
    if (!message.contains("thinking")) message["thinking"] = reasoning;
    message["reasoning_content"] = reasoning;
    return true;
  }
  return false;
}

void write_calls(Json& message, const CallStyle& style) {
  if (style.null_content && message["content"] == "") message["content"] = nullptr;
  if (!style.text_arguments) return;
  for (Json& call : message["tool_calls"])
    if (Json& function = call["function"]; function.contains("arguments"))
      function["arguments"] = function["arguments"].dump();
}

// Messages that are to be written otherwise than they are. Prepared ones need no look for anything else.
bool has_more_than_text(std::string_view messages) {
  if (find_excess(messages, {.depth = kMostDepth, .keys = SIZE_MAX})) return true;  // parsed() says so
  for (const char* key : {"\"tool_calls\"", "\"reasoning", "\"thinking\""})
    if (messages.find(key) != std::string_view::npos) return true;
  return false;
}

bool calls(const Json& message) { return message.is_object() && message.contains("tool_calls"); }

// The first way in which a call is seen in the text.
template <class Render>
CallStyle find_style(const Render& render) {
  constexpr std::string_view kSeen = "seen7";
  const Json call = {{"id", "abcdefghi"},
                     {"type", "function"},
                     {"function", {{"name", "f"}, {"arguments", {{"a", kSeen}}}}}};
  for (const bool text : {false, true})
    for (const bool null : {false, true}) {
      const CallStyle style{true, null, text};
      Json message = {{"role", "assistant"}, {"content", ""}, {"tool_calls", {call}}};
      write_calls(message, style);
      try {
        if (render(Json{{{"role", "user"}, {"content", "b"}}, message}).find(kSeen) != std::string::npos)
          return style;
      } catch (const Error&) {  // not this way
      }
    }
  return {};
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
  if (input.prepared && !has_more_than_text(input.messages)) return run(input, input.messages);
  Json messages = parsed(input.messages, "messages", true);
  bool changed = false;
  for (Json& message : messages) {
    changed |= name_reasoning(message);
    if (!input.prepared || !calls(message) || !shows_calls()) continue;
    write_calls(message, handle_->style);
    changed = true;
  }
  return changed ? run(input, messages.dump()) : run(input, input.messages);
}

bool ChatTemplate::shows_calls() const {
  std::call_once(handle_->tried, [this] {
    ChatInput input;
    input.add_generation_prompt = false;
    handle_->style = find_style([&](const Json& messages) { return run(input, messages.dump()); });
  });
  return handle_->style.shown;
}

std::string ChatTemplate::run(const ChatInput& input, std::string_view messages) const {
  std::string context = "{\"messages\":";
  context += messages;
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
