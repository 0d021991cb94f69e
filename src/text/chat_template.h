#pragma once
// Chat templates: Jinja as Hugging Face renders it (trim_blocks, lstrip_blocks, Python's string and
// dictionary methods, raise_exception, strftime_now, tojson, {% generation %}).

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace flagscale::text {

struct ChatInput {
  std::string_view messages;  // JSON: [{"role": "user", "content": "..."}, ...]
  std::string_view tools;     // JSON list, or empty
  std::string_view extra;     // JSON object of further variables (enable_thinking, ...), or empty
  bool add_generation_prompt = true;
  // Messages are as prepare_message (text/messages.h) leaves them: those that call are written as this
  // template reads them. Else they go to it as they are.
  bool prepared = false;
};

class ChatTemplate {
 public:
  // variables: bos_token, eos_token and the like. Error{kCorrupt}: the template does not parse (with its
  // line).
  ChatTemplate(std::string_view source, const std::vector<std::pair<std::string, std::string>>& variables);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;

  // Errors: kInvalidArgument for JSON that is not, and for what the template refuses by raise_exception (its
  // own words); kResource for a template that takes too much: instructions, text, memory
  // (rust/src/limits.rs). Any thread may call it.
  std::string render(const ChatInput& input) const;

  // Whether it writes an assistant's tool_calls at all.
  bool shows_calls() const;

 private:
  std::string run(const ChatInput& input, std::string_view messages) const;
  struct Handle;
  std::unique_ptr<Handle> handle_;
};

}  // namespace flagscale::text
