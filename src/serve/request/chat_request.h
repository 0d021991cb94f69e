#pragma once
// The body of /v1/chat/completions.

#include "serve/output/tool_grammar.h"
#include "serve/request/sampling_request.h"

namespace flagscale::serve {

struct ChatRequest : SamplingRequest {
  std::string messages;               // JSON list, contents flattened to text, ready for a template
  std::string tools;                  // JSON list; empty: none
  std::vector<ToolSchema> functions;  // the same, read
  enum class ToolChoice { kNone, kAuto, kRequired, kNamed } tool_choice = ToolChoice::kAuto;
  std::string tool_name;           // kNamed
  std::string tool_grammar;        // JSON schema of what kRequired and kNamed make the model write
  std::string template_variables;  // JSON object; empty: none
  bool logprobs = false, add_generation_prompt = true, continue_final_message = false, echo = false;
  bool parallel_tool_calls = true, include_reasoning = true, add_special_tokens = false;
  int64_t top_logprobs = 0;
};

const Fields<ChatRequest>& chat_fields();
ChatRequest read_chat_request(const Json& body);

// OpenAI's messages, checked, as templates want them (text/messages.h).
std::string read_messages(const Json& messages);
std::string read_tools(const std::string& name, const Json& value);               // "": none
std::string read_template_variables(const std::string& name, const Json& value);  // "": none
[[noreturn]] void refuse_template(
    const std::string& name);  // a template may loop, and is the server's affair

}  // namespace flagscale::serve
