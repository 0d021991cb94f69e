#include "serve/request/chat_request.h"

#include <nlohmann/json.hpp>

#include "serve/api_error.h"
#include "serve/request/grammar_fields.h"
#include "serve/request/schema_cost.h"
#include "text/messages.h"

namespace flagscale::serve {

namespace {

constexpr size_t kMostTools = 512;

struct Tool {
  std::string name;
  Json parameters;
};

Tool read_tool(const Json& tool, size_t i) {
  const std::string where = fmt::format("tools[{}]", i);
  if (!tool.is_object() || tool.value("type", Json("function")) != "function")
    refuse("tools", "{} must be an object of type function", where);
  const auto function = tool.find("function");
  if (function == tool.end() || !function->is_object()) refuse("tools", "{}.function is missing", where);
  const auto name = function->find("name");
  if (name == function->end() || !name->is_string() || name->get_ref<const std::string&>().empty())
    refuse("tools", "{}.function.name is missing", where);
  Json parameters = function->value("parameters", Json());
  if (parameters.is_null()) parameters = Json{{"type", "object"}, {"properties", Json::object()}};
  if (!parameters.is_object()) refuse("tools", "{}.function.parameters must be a JSON schema", where);
  return {name->get<std::string>(), std::move(parameters)};
}

void read_tool_choice(ChatRequest& request, const std::string& name, const Json& value) {
  using Choice = ChatRequest::ToolChoice;
  if (value.is_string()) {
    const auto& word = value.get_ref<const std::string&>();
    if (word == "none")
      request.tool_choice = Choice::kNone;
    else if (word == "auto")
      request.tool_choice = Choice::kAuto;
    else if (word == "required")
      request.tool_choice = Choice::kRequired;
    else
      refuse(name, "{} must be none, auto, required, or name a function", name);
    return;
  }
  const auto function = value.is_object() ? value.find("function") : value.end();
  if (!value.is_object() || function == value.end() || !function->is_object() || !function->contains("name"))
    refuse(name,
           "{} must be none, auto, required, or {{\"type\": \"function\", \"function\": {{\"name\": …}}}}",
           name);
  request.tool_choice = Choice::kNamed;
  request.tool_name = read_string(name + ".function.name", (*function)["name"]);
}

// What the model must write, as vLLM has it: the arguments alone, or a list of calls.
void constrain_tools(ChatRequest& request, const std::vector<Tool>& tools) {
  using Choice = ChatRequest::ToolChoice;
  if (request.tool_choice == Choice::kNamed) {
    for (const Tool& tool : tools)
      if (tool.name == request.tool_name) request.tool_grammar = dump(guided_schema(tool.parameters, true));
    if (request.tool_grammar.empty())
      refuse("tool_choice", "tool_choice names '{}', which is not in tools", request.tool_name.substr(0, 64));
  } else if (request.tool_choice == Choice::kRequired) {
    Json any = Json::array();
    for (const Tool& tool : tools)
      any.push_back(
          {{"type", "object"},
           {"properties",
            {{"name", {{"type", "string"}, {"enum", {tool.name}}}}, {"parameters", tool.parameters}}},
           {"required", {"name", "parameters"}},
           {"additionalProperties", false}});
    Json schema = {{"type", "array"}, {"minItems", 1}, {"items", {{"anyOf", any}}}};
    if (!request.parallel_tool_calls) schema["maxItems"] = 1;
    request.tool_grammar = dump(guided_schema(schema, true));
  }
}

void add_tool_fields(Fields<ChatRequest>& f) {
  f.add(
      "tools",
      R"({"type":["array","null"],"items":{"type":"object","properties":{"type":{"const":"function"},"function":{"type":"object","properties":{"name":{"type":"string","minLength":1},"parameters":{"type":["object","null"]}},"required":["name"]}},"required":["function"]}})",
      "functions that the model may call",
      [](ChatRequest& r, const std::string& name, const Json& v) { r.tools = read_tools(name, v); });
  f.add(
      "tool_choice",
      R"({"anyOf":[{"type":["string","null"],"enum":["none","auto","required",null]},{"type":"object","properties":{"function":{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}},"required":["function"]}]})",
      "none, auto, required, or a function", read_tool_choice);
  f.flag("parallel_tool_calls", &ChatRequest::parallel_tool_calls, "false: one call at most");
}

}  // namespace

std::string read_messages(const Json& given) {
  if (!given.is_array() || given.empty())
    refuse("messages", "messages must be a list of messages, and not empty");
  Json messages = given;
  try {
    for (size_t i = 0; i < messages.size(); ++i)
      text::prepare_message(messages[i], fmt::format("messages[{}]", i));
  } catch (const Error& error) {
    refuse("messages", "{}", error.what());
  }
  return dump(messages);
}

std::string read_tools(const std::string& name, const Json& value) {
  if (!value.is_array()) refuse(name, "{} must be a list", name);
  if (value.size() > kMostTools)
    throw ApiError(
        422, fmt::format("{} has {} items, at most {} are allowed", name, value.size(), kMostTools), name);
  for (size_t i = 0; i < value.size(); ++i) read_tool(value[i], i);
  return value.empty() ? "" : dump(value);
}

std::string read_template_variables(const std::string& name, const Json& value) {
  if (!value.is_object()) refuse(name, "{} must be an object", name);
  for (const char* ours : {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"})
    if (value.contains(ours)) refuse(name, "{} may not set {}", name, ours);
  return value.empty() ? "" : dump(value);
}

void refuse_template(const std::string& name) {
  refuse(name, "a template in a request is not run; start the server with --chat-template FILE");
}

const Fields<ChatRequest>& chat_fields() {
  static const Fields<ChatRequest> fields = [] {
    Fields<ChatRequest> f;
    f.add(
        "messages",
        R"({"type":"array","minItems":1,"items":{"type":"object","properties":{"role":{"type":"string"}},"required":["role"]}})",
        "the conversation: role and content of each",
        [](ChatRequest& r, const std::string&, const Json& v) { r.messages = read_messages(v); }, true);
    f.integer("max_tokens", &ChatRequest::max_tokens, {.least = 1, .most = 2147483647},
              "generate at most as many; all that fit where none is given");
    f.integer("max_completion_tokens", &ChatRequest::max_tokens, {.least = 1, .most = 2147483647},
              "the newer name of max_tokens");
    f.flag("logprobs", &ChatRequest::logprobs, "log-probabilities of the output's tokens");
    f.integer("top_logprobs", &ChatRequest::top_logprobs, {.least = 0}, "with each so many of the likeliest");
    add_tool_fields(f);
    f.flag("add_generation_prompt", &ChatRequest::add_generation_prompt,
           "end the prompt where an assistant's message begins");
    f.flag("continue_final_message", &ChatRequest::continue_final_message,
           "the last message is not ended but continued");
    f.flag("add_special_tokens", &ChatRequest::add_special_tokens,
           "what the tokenizer adds around a text, beside what the template writes");
    f.flag("include_reasoning", &ChatRequest::include_reasoning, "false: leave the reasoning out");
    f.add("chat_template_kwargs", R"({"type":["object","null"]})", "further variables of the template",
          [](ChatRequest& r, const std::string& name, const Json& v) {
            r.template_variables = read_template_variables(name, v);
          });
    f.add("chat_template", string_schema(), "not taken from requests",
          [](ChatRequest&, const std::string& name, const Json&) { refuse_template(name); });
    f.flag("echo", &ChatRequest::echo, "the last message before the answer, where it is the assistant's");
    add_sampling_fields(f);
    return f;
  }();
  return fields;
}

ChatRequest read_chat_request(const Json& body) {
  ChatRequest request = chat_fields().read(body);
  std::vector<Tool> tools;
  if (!request.tools.empty()) {
    const Json& given = body["tools"];
    for (size_t i = 0; i < given.size(); ++i) tools.push_back(read_tool(given[i], i));
    for (const Tool& tool : tools) request.functions.push_back({tool.name, dump(tool.parameters)});
  }
  using ToolChoice = ChatRequest::ToolChoice;
  if (tools.empty()) {
    if (request.tool_choice == ToolChoice::kRequired || request.tool_choice == ToolChoice::kNamed)
      refuse("tool_choice", "tool_choice needs tools");
    request.tool_choice = ToolChoice::kNone;
  }
  if (request.tool_choice != ToolChoice::kNone) {
    Json schemas = Json::array();
    for (const Tool& tool : tools) schemas.push_back(tool.parameters);
    check_schema_cost("tools", schemas);
  }
  constrain_tools(request, tools);
  if (!request.tool_grammar.empty())
    set_grammar(request, {"json_schema", request.tool_grammar}, "tool_choice"),
        request.grammar_field = "tools";
  if (request.top_logprobs > 0 && !request.logprobs)
    refuse("top_logprobs", "top_logprobs needs logprobs: true");
  if (request.prompt_logprobs && request.stream) refuse_streamed_prompt_logprobs();
  if (request.continue_final_message && body.value("add_generation_prompt", Json(false)) == true)
    refuse("continue_final_message", "continue_final_message and add_generation_prompt exclude each other");
  return request;
}

}  // namespace flagscale::serve
