#pragma once
// A record of conversation data as messages, whatever its format:
//   messages           {"messages": [{"role": "user", "content": "…"}, …]}; also "tools" or OpenAI's older
//                      "functions"
//   sharegpt           {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", …}]}, "system",
//   "tools" alpaca             {"instruction": "…", "input": "…", "output": "…"}, "system", "history": [["…",
//   "…"], …] prompt-completion  {"prompt": "…", "completion": "…"}: text without a template, or both as
//   messages
// Messages are prepared as a server's are (text/messages.h). "weight": 0 on an answer: it shall not be
// learnt. Keys that no format has are passed over.

#include <string>
#include <string_view>
#include <vector>

namespace flagscale::data {

enum class ConversationFormat { kAuto, kMessages, kShareGpt, kAlpaca, kPromptCompletion };
// "auto", "messages", …; throws Error{kInvalidArgument}.
ConversationFormat parse_conversation_format(std::string_view name);

// The keys that records are read by; others, such as a column of pictures, need not be looked at.
const std::vector<std::string>& conversation_keys();

struct Message {
  std::string json;  // an object, as chat templates take it
  std::string role, content;
  bool learnt = false;  // the assistant wrote it, and nothing says that it shall not be learnt
  bool empty = false;   // neither content nor calls
  bool calls = false;   // has tool_calls
};

struct Conversation {
  std::vector<Message> messages;
  std::string tools, variables;  // JSON for the template; may be empty
  bool plain = false;            // prompt and completion below instead of messages
  std::string prompt, completion;
};

// kAuto goes by the keys. Throws Error{kInvalidArgument} saying what is wrong with the record.
Conversation parse_conversation(std::string_view line, ConversationFormat format);

}  // namespace flagscale::data
