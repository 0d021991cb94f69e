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

 private:
  struct Handle;
  std::unique_ptr<Handle> handle_;
};

}  // namespace flagscale::text
