// folders: text
// seeds: tests/fuzz/seeds/chat_template
#include <string_view>

#include "base/error.h"
#include "text/chat_template.h"

namespace {
constexpr std::string_view kChat =
    R"([{"role": "system", "content": "Be exact."}, {"role": "user", "content": "Weather?\n"},
        {"role": "assistant", "content": null, "reasoning": "é", "tool_calls": [{"id": "c1", "type": "function",
         "function": {"name": "weather", "arguments": {"city": "Paris", "days": 3, "limit": 0.5}}}]},
        {"role": "tool", "content": "21.5"}, {"role": "assistant", "content": "<think>so</think> 21.5"},
        {"role": "user", "content": [{"type": "text", "text": "Thanks"}]}])";
constexpr std::string_view kTools =
    R"([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Zürich"]}}, "required": ["city"]}}}])";
}  // namespace

// The input up to a line "====" as a template of a chat with tools; what follows such a line, as the
// messages.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flagscale;
  constexpr std::string_view kLine = "\n====\n";
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t line = input.find(kLine);
  const std::string_view source = input.substr(0, line);
  try {
    const text::ChatTemplate compiled(source, {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
    for (const bool ask : {true, false})
      for (const std::string_view tools : {kTools, std::string_view()}) try {
          compiled.render({.messages = line == input.npos ? kChat : input.substr(line + kLine.size()),
                           .tools = tools,
                           .extra = R"({"enable_thinking": false})",
                           .add_generation_prompt = ask});
        } catch (const Error&) {  // refused by the template, or too much work
        }
  } catch (const Error&) {  // no template
  }
  return 0;
}
