#include "text/chat_template.h"

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

// Rust's parser looks inside: here it only must be JSON of the right kind, since it is put into a larger
// text.
std::string checked(std::string_view json, const char* what, bool list) {
  Json value = Json::parse(json, nullptr, false);
  if (value.is_discarded()) fail(ErrorKind::kInvalidArgument, "{} is not JSON", what);
  if (list ? !value.is_array() : !value.is_object())
    fail(ErrorKind::kInvalidArgument, "{} must be a JSON {}", what, list ? "list" : "object");
  return std::string(json);
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
  std::string context = "{\"messages\":" + checked(input.messages, "messages", true);
  context += ",\"add_generation_prompt\":";
  context += input.add_generation_prompt ? "true" : "false";
  if (!input.tools.empty()) context += ",\"tools\":" + checked(input.tools, "tools", true);
  const std::string variables = handle_->variables.dump();
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
