#include "data/conversation.h"

#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flagscale::data {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::pair<std::string_view, ConversationFormat>, 5> kNames{
    {{"auto", ConversationFormat::kAuto},
     {"messages", ConversationFormat::kMessages},
     {"sharegpt", ConversationFormat::kShareGpt},
     {"alpaca", ConversationFormat::kAlpaca},
     {"prompt-completion", ConversationFormat::kPromptCompletion}}};

template <class... Args>
[[noreturn]] void broken(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorKind::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...));
}

const Json& list_of(const Json& record, const char* key) {
  const auto it = record.find(key);
  if (it == record.end()) broken("has no key \"{}\"", key);
  if (!it->is_array() || it->empty()) broken("\"{}\" is not a list of messages", key);
  return *it;
}

std::string text_of(const Json& record, const char* key, bool required) {
  const auto it = record.find(key);
  if (it == record.end() || it->is_null()) {
    if (required) broken("has no key \"{}\"", key);
    return {};
  }
  if (!it->is_string()) broken("\"{}\" is not a string", key);
  return it->get<std::string>();
}

void add(Conversation& out, const Json& message, bool learnt) {
  out.messages.push_back({message.dump(), learnt});
}
void add(Conversation& out, const char* role, const std::string& content) {
  add(out, Json{{"role", role}, {"content", content}}, std::string_view(role) == "assistant");
}

// Content may be absent beside calls of tools.
void add_message(const Json& message, size_t index, Conversation& out) {
  if (!message.is_object()) broken("message {} is not an object", index);
  const auto role = message.find("role");
  if (role == message.end() || !role->is_string()) broken("message {} has no \"role\"", index);
  const auto content = message.find("content");
  const bool calls = message.contains("tool_calls") && !message["tool_calls"].empty();
  const bool some = content != message.end() && (content->is_string() || content->is_array());
  if (!some && content != message.end() && !content->is_null())
    broken("message {}: \"content\" is neither a string nor a list", index);
  if (!some && !calls) broken("message {} has no \"content\"", index);
  Json kept = message;
  bool learnt = *role == "assistant";
  if (const auto weight = kept.find("weight"); weight != kept.end()) {
    if (!weight->is_number() || (*weight != 0 && *weight != 1))
      broken("message {} has \"weight\" {}, expected 0 or 1", index, weight->dump());
    learnt = learnt && *weight == 1;
    kept.erase("weight");
  }
  add(out, kept, learnt);
}

void add_messages(const Json& list, Conversation& out) {
  for (const Json& message : list) add_message(message, out.messages.size(), out);
}

std::string as_json(const Json& record, const char* key) {
  const auto it = record.find(key);
  if (it == record.end() || it->is_null()) return {};
  if (!it->is_string()) return it->dump();
  const Json inside = Json::parse(it->get_ref<const std::string&>(), nullptr, false);  // as ShareGPT's tools
  if (inside.is_discarded()) broken("\"{}\" is not JSON", key);
  return inside.dump();
}

void read_messages(const Json& record, Conversation& out) {
  add_messages(list_of(record, "messages"), out);
  out.tools = as_json(record, "tools");
  out.variables = as_json(record, "chat_template_kwargs");
}

const char* share_gpt_role(const std::string& from, size_t index) {
  if (from == "human" || from == "user") return "user";
  if (from == "gpt" || from == "assistant" || from == "model" || from == "chatgpt") return "assistant";
  if (from == "system") return "system";
  if (from == "tool" || from == "observation") return "tool";
  broken("message {} is \"from\" '{}': expected human, gpt, system or tool", index, from);
}

void read_share_gpt(const Json& record, Conversation& out) {
  if (const std::string system = text_of(record, "system", false); !system.empty())
    add(out, "system", system);
  size_t index = 0;
  for (const Json& message : list_of(record, "conversations")) {
    if (!message.is_object()) broken("message {} is not an object", index);
    for (const char* key : {"from", "value"})
      if (!message.contains(key) || !message[key].is_string())
        broken("message {} has no \"{}\" that is a string", index, key);
    add(out, share_gpt_role(message["from"], index), message["value"]);
    ++index;
  }
  out.tools = as_json(record, "tools");
}

void read_alpaca(const Json& record, Conversation& out) {
  if (const std::string system = text_of(record, "system", false); !system.empty())
    add(out, "system", system);
  if (const auto history = record.find("history"); history != record.end() && !history->is_null()) {
    if (!history->is_array()) broken("\"history\" is not a list of questions and answers");
    for (const Json& turn : *history) {
      if (!turn.is_array() || turn.size() != 2 || !turn[0].is_string() || !turn[1].is_string())
        broken("\"history\" holds something other than pairs of question and answer");
      add(out, "user", turn[0]);
      add(out, "assistant", turn[1]);
    }
  }
  const std::string input = text_of(record, "input", false);
  add(out, "user", text_of(record, "instruction", true) + (input.empty() ? "" : "\n" + input));
  add(out, "assistant", text_of(record, "output", true));
}

void read_prompt_completion(const Json& record, Conversation& out) {
  if (record.contains("prompt") && record["prompt"].is_array()) {
    add_messages(list_of(record, "prompt"), out);
    for (Message& message : out.messages) message.learnt = false;
    add_messages(list_of(record, "completion"), out);
    out.tools = as_json(record, "tools");
    return;
  }
  out.plain = true;
  out.prompt = text_of(record, "prompt", true);
  out.completion = text_of(record, "completion", true);
  if (out.completion.empty()) broken("\"completion\" is empty");
}

ConversationFormat format_of(const Json& record) {
  if (record.contains("messages")) return ConversationFormat::kMessages;
  if (record.contains("conversations")) return ConversationFormat::kShareGpt;
  if (record.contains("instruction")) return ConversationFormat::kAlpaca;
  if (record.contains("prompt")) return ConversationFormat::kPromptCompletion;
  broken("has none of the keys \"messages\", \"conversations\", \"instruction\" and \"prompt\"");
}

}  // namespace

ConversationFormat parse_conversation_format(std::string_view name) {
  for (const auto& [known, format] : kNames)
    if (name == known) return format;
  broken("'{}' is no format of conversations: auto, messages, sharegpt, alpaca, prompt-completion", name);
}

Conversation parse_conversation(std::string_view text, ConversationFormat format) {
  const Json record = Json::parse(text, nullptr, false);
  if (record.is_discarded()) broken("not JSON");
  if (!record.is_object()) broken("not a JSON object");
  Conversation out;
  switch (format == ConversationFormat::kAuto ? format_of(record) : format) {
    case ConversationFormat::kShareGpt:
      read_share_gpt(record, out);
      break;
    case ConversationFormat::kAlpaca:
      read_alpaca(record, out);
      break;
    case ConversationFormat::kPromptCompletion:
      read_prompt_completion(record, out);
      break;
    default:
      read_messages(record, out);
  }
  return out;
}

}  // namespace flagscale::data
