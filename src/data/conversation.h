#pragma once
// A record of conversation data as messages, whatever its format:
//   messages           {"messages": [{"role": "user", "content": "…"}, …]}; also "tools", and OpenAI's
//   "weight": 0
//                      on an answer that shall not be learnt
//   sharegpt           {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", …}]}, "system"
//   alpaca             {"instruction": "…", "input": "…", "output": "…"}, "system", "history": [["…", "…"],
//   …] prompt-completion  {"prompt": "…", "completion": "…"}: text without a template, or both as messages

#include <string>
#include <string_view>
#include <vector>

namespace flagscale::data {

enum class ConversationFormat { kAuto, kMessages, kShareGpt, kAlpaca, kPromptCompletion };
// "auto", "messages", …; throws Error{kInvalidArgument}.
ConversationFormat parse_conversation_format(std::string_view name);

struct Message {
  std::string json;     // an object, as chat templates take it
  bool learnt = false;  // the assistant wrote it, and nothing says that it shall not be learnt
};

struct Conversation {
  std::vector<Message> messages;
  std::string tools, variables;  // JSON for the template; may be empty
  bool plain = false;            // prompt and completion below instead of messages
  std::string prompt, completion;
};

// kAuto goes by the keys. Throws Error{kInvalidArgument} saying what is wrong with the record.
Conversation parse_conversation(std::string_view record, ConversationFormat format);

}  // namespace flagscale::data
