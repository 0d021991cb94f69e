// POST /v1/chat/completions

#include <nlohmann/json.hpp>

#include "serve/api_error.h"
#include "serve/endpoint/endpoint.h"
#include "serve/generation/generation.h"
#include "serve/generation/prompt.h"

namespace flagscale::serve {
namespace {

constexpr size_t kMostToolGrammar = 256 << 10;

const ToolFormat* tool_format(const ServedModel& model) {
  return model.tool_format.empty() ? nullptr : Registry<ToolFormat>::instance().find(model.tool_format);
}

std::unique_ptr<OutputParser> parser(const ServedModel& model, const ChatRequest& request,
                                     bool inside_reasoning) {
  using Choice = ChatRequest::ToolChoice;
  const ToolFormat* format = tool_format(model);
  const size_t length = format ? format->id_length : 24;
  const NewCallId new_id = [length] { return length < 16 ? random_id(length) : "call_" + random_id(length); };
  if (request.tool_choice == Choice::kNamed) return named_parser(request.tool_name, new_id);
  std::unique_ptr<OutputParser> result = plain_parser();
  if (request.tool_choice == Choice::kRequired)
    result = array_parser(new_id);
  else if (request.tool_choice == Choice::kAuto && format)
    result = format->make(new_id);
  if (!request.parallel_tool_calls) result = first_call_only(std::move(result));
  // A constrained output has no place for thoughts.
  if (model.reasoning && request.grammar.kind.empty())
    result = reasoning_parser(std::move(result), inside_reasoning || model.always_reasons);
  return result;
}

OutputOptions output_options(const ServedModel& model, const ChatRequest& request) {
  OutputOptions options{request.stop,
                        request.include_stop_str_in_output,
                        request.skip_special_tokens,
                        request.logprobs,
                        false,
                        request.min_tokens};
  const ToolFormat* format = tool_format(model);
  if (request.tool_choice == ChatRequest::ToolChoice::kAuto && format &&
      (format->special || is_special_mark(model.tokenizer(), format->mark)))
    options.skip_special = false;
  return options;
}

// tool_choice auto: text is free, calls are as their schemas allow.
engine::Grammar grammar(const ServedModel& model, const ChatRequest& request, bool inside_reasoning) {
  using Thought = ToolSyntax::Thought;
  const ToolFormat* format = tool_format(model);
  if (!request.grammar.kind.empty() || request.tool_choice != ChatRequest::ToolChoice::kAuto || !format)
    return request.grammar;
  const Thought thought = !model.reasoning                           ? Thought::kNone
                          : inside_reasoning || model.always_reasons ? Thought::kInside
                                                                     : Thought::kMay;
  std::string text = format->grammar(
      {model.tokenizer(), model.template_source, request.functions, request.parallel_tool_calls, thought});
  if (text.size() > kMostToolGrammar)
    throw ApiError(422,
                   fmt::format("the tools' schemas have {} bytes, at most {} are allowed", text.size(),
                               kMostToolGrammar),
                   "tools");
  return {"lark", std::move(text)};
}

void check(const Context& context, const ChatRequest& request) {
  if (request.tool_choice == ChatRequest::ToolChoice::kAuto && !tool_format(context.model))
    refuse("tool_choice",
           "how this model writes tool calls is not known: start the server with --tool-call-parser, or use "
           "tool_choice required");
  if (request.top_logprobs > context.model.limits.max_logprobs)
    refuse("top_logprobs", "top_logprobs must be at most {}", context.model.limits.max_logprobs);
}

// With echo: the text of an assistant's last message, which the answer goes on with.
std::string continued_text(const std::string& messages) {
  const Json last = Json::parse(messages).back();
  return last["role"] == "assistant" ? last["content"].get<std::string>() : std::string();
}

GenerationPlan plan(const Context& context, ChatRequest request) {
  const ServedModel& model = context.model;
  const std::string name = check_model(context, request.model);
  check(context, request);
  const ChatPrompt prompt = chat_prompt(model, request);
  GenerationPlan plan;
  engine::Request work;
  work.sampling =
      sampling_params(request, model.defaults, model.limits, static_cast<int64_t>(prompt.ids.size()),
                      model.limits.max_model_len, model.loaded.stop_ids);
  if (request.logprobs) work.sampling.logprobs = static_cast<int>(request.top_logprobs);
  work.prompt = prompt.ids;
  work.n = static_cast<int>(request.n);
  work.priority = static_cast<int>(request.priority);
  work.cache_salt = request.cache_salt;
  work.adapter = adapter_of(context, name);
  for (int i = 0; i < work.n; ++i)
    plan.choices.push_back(std::make_unique<Choice>(i, model.tokenizer(), prompt.ids,
                                                    output_options(model, request),
                                                    parser(model, request, prompt.inside_reasoning)));
  work.grammar = grammar(model, request, prompt.inside_reasoning);
  plan.grammar_field = request.grammar_field.empty() ? "tools" : request.grammar_field;
  plan.requests.push_back(std::move(work));
  plan.stream = request.stream;
  plan.open_ended = !request.max_tokens;
  const bool include_usage = request.include_usage || context.config.enable_force_include_usage;
  plan.include_usage = include_usage;
  plan.continuous_usage = request.continuous_usage;
  ChatStyle style{request.logprobs,
                  request.include_reasoning,
                  include_usage,
                  request.prompt_logprobs.has_value(),
                  request.tool_choice == ChatRequest::ToolChoice::kNamed,
                  {static_cast<int>(request.top_logprobs), request.return_tokens_as_token_ids},
                  request.echo ? continued_text(request.messages) : std::string()};
  const std::string id =
      "chatcmpl-" + (request.request_id.empty() ? random_id(29) : request.request_id.substr(0, 128));
  plan.format = chat_format(model.tokenizer(), {id, name, unix_seconds()}, std::move(style));
  return plan;
}

void chat(Context& context, const std::shared_ptr<net::Exchange>& exchange) {
  if (refuse_busy(context, exchange)) return;
  with_json_body(context, exchange, [&context, exchange](const Json& body, auto arrival) {
    Generation::start(context, exchange, plan(context, read_chat_request(body)), arrival);
  });
}

std::string chat_response_schema() {
  return R"({"type":"object","required":["id","object","created","model","choices","usage"],"properties":{"id":{"type":"string"},"object":{"const":"chat.completion"},
"created":{"type":"integer"},"model":{"type":"string"},"choices":{"type":"array","items":{"type":"object","required":["index","message","logprobs","finish_reason"],
"properties":{"index":{"type":"integer"},"finish_reason":{"enum":["stop","length","tool_calls","abort"]},"message":{"type":"object","required":["role","content","refusal"],
"properties":{"role":{"const":"assistant"},"content":{"type":["string","null"]}}}}}},"usage":{"type":"object","required":["prompt_tokens","completion_tokens","total_tokens"]}}})";
}

const Registration<Endpoint> kChat{"POST /v1/chat/completions",
                                   {.summary = "the model's next message in a conversation",
                                    .handle = &chat,
                                    .body_schema = [] { return chat_fields().schema(); },
                                    .response_schema = &chat_response_schema,
                                    .refusals = {404}}};

}  // namespace
}  // namespace flagscale::serve
