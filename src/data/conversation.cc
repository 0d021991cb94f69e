#include "data/conversation.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/json_bounds.h"
#include "text/messages.h"

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

// What OpenAI called functions before it called them tools.
void rename_function_call(Json& message) {
  if (const auto call = message.find("function_call"); call != message.end()) {
    if (!call->is_null() && !message.contains("tool_calls"))
      message["tool_calls"] = Json::array({{{"type", "function"}, {"function", *call}}});
    message.erase("function_call");
  }
  if (message.value("role", Json()) == "function") message["role"] = "tool";
}

bool says_something(const Json& message) {
  const auto says = [&](const char* key) {
    const auto it = message.find(key);
    return it != message.end() && !it->empty() && *it != "";
  };
  return says("tool_calls") || std::ranges::any_of(text::kReasoningKeys, says);
}

// Whether the message's "weight", or its absence, lets it be learnt.
bool take_weight(Json& message, const std::string& where) {
  const auto weight = message.find("weight");
  if (weight == message.end()) return true;
  if (!weight->is_null() && (!weight->is_number() || (*weight != 0 && *weight != 1)))
    broken("{}.weight is {}, expected 0 or 1", where, weight->dump().substr(0, 64));
  const bool learnt = *weight != 0;
  message.erase(weight);
  return learnt;
}

void add_message(Json message, const std::string& where, Conversation& out) {
  if (!message.is_object()) broken("{} must be an object with role and content", where);
  const bool learnt = take_weight(message, where);
  rename_function_call(message);
  const bool says = says_something(message);
  const auto content = message.find("content");
  if (!says && content != message.end() && content->is_null())
    broken("{}.content is null; an answer that is empty is \"\"", where);
  text::prepare_message(message, where);
  const std::string role = message["role"], text = message["content"];
  const bool calls = message.contains("tool_calls");
  out.messages.push_back(
      {message.dump(), role, text, learnt && role == "assistant", text.empty() && !calls, calls});
}

void add(Conversation& out, const char* role, const Json& content) {
  add_message({{"role", role}, {"content", content}}, role, out);
}

void add_messages(const Json& record, const char* key, Conversation& out) {
  size_t index = 0;
  for (const Json& message : list_of(record, key))
    add_message(message, fmt::format("{}[{}]", key, index++), out);
}

std::string as_json(const Json& record, const char* key) {
  const auto it = record.find(key);
  if (it == record.end() || it->is_null()) return {};
  if (!it->is_string()) return it->dump();
  const Json inside = Json::parse(it->get_ref<const std::string&>(), nullptr, false);  // as ShareGPT's tools
  if (inside.is_discarded()) broken("\"{}\" is not JSON", key);
  return inside.dump();
}

void read_template_fields(const Json& record, Conversation& out) {
  out.tools = as_json(record, "tools");
  if (out.tools == "[]") out.tools.clear();  // to templates none is not the same as an empty list
  out.variables = as_json(record, "chat_template_kwargs");
}

void read_messages(const Json& record, Conversation& out) {
  add_messages(record, "messages", out);
  read_template_fields(record, out);
  const auto functions = record.find("functions");
  if (!out.tools.empty() || functions == record.end() || functions->is_null()) return;
  if (!functions->is_array()) broken("\"functions\" is not a list");
  Json tools = Json::array();
  for (const Json& function : *functions) tools.push_back({{"type", "function"}, {"function", function}});
  if (!tools.empty()) out.tools = tools.dump();
}

const char* share_gpt_role(const std::string& from, const std::string& where) {
  if (from == "human" || from == "user") return "user";
  if (from == "gpt" || from == "assistant" || from == "model" || from == "chatgpt" || from == "function_call")
    return "assistant";
  if (from == "system") return "system";
  if (from == "tool" || from == "observation") return "tool";
  broken("{} is \"from\" '{}': expected human, gpt, system, tool, observation or function_call", where,
         from.substr(0, 64));
}

// {"name": …, "arguments": …} or a list of them.
Json calls_of(const std::string& text, const std::string& where) {
  Json calls = Json::parse(text, nullptr, false);
  if (calls.is_object()) calls = Json::array({calls});
  if (!calls.is_array()) broken("{}.value, from function_call, is not JSON of a call", where);
  for (Json& call : calls) call = {{"type", "function"}, {"function", call}};
  return calls;
}

// Some write role and content below "conversations" all the same.
void add_share_gpt(const Json& turn, const std::string& where, Conversation& out) {
  if (turn.is_object() && !turn.contains("from") && turn.contains("role"))
    return add_message(turn, where, out);
  if (!turn.is_object()) broken("{} is not an object", where);
  for (const char* key : {"from", "value"})
    if (!turn.contains(key) || !turn[key].is_string())
      broken("{} has no \"{}\" that is a string", where, key);
  Json message = {{"role", share_gpt_role(turn["from"], where)}};
  if (turn["from"] == "function_call")
    message["tool_calls"] = calls_of(turn["value"], where);
  else
    message["content"] = turn["value"];
  if (turn.contains("weight")) message["weight"] = turn["weight"];
  add_message(std::move(message), where, out);
}

void read_share_gpt(const Json& record, Conversation& out) {
  if (const std::string system = text_of(record, "system", false); !system.empty())
    add(out, "system", system);
  size_t index = 0;
  for (const Json& turn : list_of(record, "conversations"))
    add_share_gpt(turn, fmt::format("conversations[{}]", index++), out);
  read_template_fields(record, out);
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

// A completion that is marked as unwanted is no example to learn.
void read_prompt_completion(const Json& record, Conversation& out) {
  if (const auto label = record.find("label"); label != record.end() && *label == false)
    broken(
        "\"label\" is false: unwanted completions are preference data, which fine-tuning here does not take");
  if (record.contains("prompt") && record["prompt"].is_array()) {
    add_messages(record, "prompt", out);
    for (Message& message : out.messages) message.learnt = false;
    add_messages(record, "completion", out);
    read_template_fields(record, out);
    return;
  }
  out.plain = true;
  out.prompt = text_of(record, "prompt", true);
  out.completion = text_of(record, "completion", true);
}

ConversationFormat format_of(const Json& record) {
  if (record.contains("messages")) return ConversationFormat::kMessages;
  if (record.contains("chosen") && record.contains("rejected"))
    broken(
        "has \"chosen\" and \"rejected\": preference data, which fine-tuning here does not take; write what "
        "shall be "
        "learnt as \"messages\"");
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

const std::vector<std::string>& conversation_keys() {
  static const std::vector<std::string> keys{
      "messages", "conversations", "instruction", "input", "output",    "history",
      "system",   "prompt",        "completion",  "tools", "functions", "chat_template_kwargs",
      "chosen",   "rejected",      "label"};
  return keys;
}

Conversation parse_conversation(std::string_view line, ConversationFormat format) {
  if (text::find_excess(line, {.depth = 128, .keys = SIZE_MAX})) broken("JSON nested deeper than 128");
  const Json record = Json::parse(line, nullptr, false);
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
