// POST /tokenize and /detokenize, as vLLM has them.

#include <nlohmann/json.hpp>

#include "serve/api_error.h"
#include "serve/endpoint/endpoint.h"
#include "serve/generation/logprobs.h"
#include "serve/generation/prompt.h"

namespace flagscale::serve {
namespace {

struct TokenizeRequest {
  std::string model, messages, tools, variables;
  std::optional<PromptInput> prompt;
  std::optional<bool> add_special_tokens;
  bool add_generation_prompt = true, continue_final_message = false, return_token_strs = false;
};

const Fields<TokenizeRequest>& tokenize_fields() {
  static const Fields<TokenizeRequest> table = [] {
    Fields<TokenizeRequest> f;
    f.text("model", &TokenizeRequest::model, "a name of /v1/models");
    f.add("prompt", string_schema(), "a text; or",
          [](TokenizeRequest& r, const std::string& name, const Json& v) {
            r.prompt = {read_string(name, v), {}, false};
          });
    f.add("messages", R"({"type":["array","null"],"minItems":1,"items":{"type":"object"}})", "a conversation",
          [](TokenizeRequest& r, const std::string&, const Json& v) { r.messages = read_messages(v); });
    f.add("tools", R"({"type":["array","null"]})", "for the template",
          [](TokenizeRequest& r, const std::string& name, const Json& v) { r.tools = read_tools(name, v); });
    f.add("chat_template_kwargs", R"({"type":["object","null"]})", "further variables of the template",
          [](TokenizeRequest& r, const std::string& name, const Json& v) {
            r.variables = read_template_variables(name, v);
          });
    f.add("chat_template", string_schema(), "not taken from requests",
          [](TokenizeRequest&, const std::string& name, const Json&) { refuse_template(name); });
    f.flag("add_special_tokens", &TokenizeRequest::add_special_tokens,
           "what the tokenizer adds around a text");
    f.flag("add_generation_prompt", &TokenizeRequest::add_generation_prompt,
           "end where an assistant's message begins");
    f.flag("continue_final_message", &TokenizeRequest::continue_final_message,
           "the last message is not ended");
    f.flag("return_token_strs", &TokenizeRequest::return_token_strs, "the tokens' texts too");
    return f;
  }();
  return table;
}

std::vector<int32_t> tokens_of(const ServedModel& model, const TokenizeRequest& request) {
  if (request.prompt.has_value() == !request.messages.empty())
    throw ApiError(400, "give one of prompt and messages", "prompt");
  if (request.prompt)
    return model.tokenizer().encode(request.prompt->text, request.add_special_tokens.value_or(true));
  ChatRequest chat;
  chat.messages = request.messages;
  chat.tools = request.tools;
  chat.template_variables = request.variables;
  chat.add_generation_prompt = request.add_generation_prompt;
  chat.continue_final_message = request.continue_final_message;
  chat.add_special_tokens = request.add_special_tokens.value_or(false);
  return chat_prompt(model, chat).ids;
}

void tokenize(Context& context, const std::shared_ptr<net::Exchange>& exchange) {
  with_json_body(context, exchange, [&context, exchange](const Json& body, auto) {
    const TokenizeRequest request = tokenize_fields().read(body);
    check_model(context, request.model);
    const auto ids = tokens_of(context.model, request);
    Json answer = {{"count", ids.size()},
                   {"max_model_len", context.model.limits.max_model_len},
                   {"tokens", ids},
                   {"token_strs", nullptr}};
    if (request.return_token_strs) {
      Json texts = Json::array();
      for (const int32_t id : ids) texts.push_back(token_text(context.model.tokenizer(), id));
      answer["token_strs"] = std::move(texts);
    }
    exchange->respond({200, "application/json", dump(answer)});
  });
}

struct DetokenizeRequest {
  std::string model;
  std::vector<int32_t> tokens;
};

const Fields<DetokenizeRequest>& detokenize_fields() {
  static const Fields<DetokenizeRequest> table = [] {
    Fields<DetokenizeRequest> f;
    f.text("model", &DetokenizeRequest::model, "a name of /v1/models");
    f.add(
        "tokens", R"({"type":"array","items":{"type":"integer","minimum":0}})", "token ids",
        [](DetokenizeRequest& r, const std::string& name, const Json& v) {
          r.tokens = read_ids(name, v, 1 << 22);
        },
        true);
    return f;
  }();
  return table;
}

void detokenize(Context& context, const std::shared_ptr<net::Exchange>& exchange) {
  with_json_body(context, exchange, [&context, exchange](const Json& body, auto) {
    const DetokenizeRequest request = detokenize_fields().read(body);
    check_model(context, request.model);
    for (const int32_t id : request.tokens)
      if (id >= context.model.limits.vocab_size)
        refuse("tokens", "token id {} is not in the vocabulary of {}", id, context.model.limits.vocab_size);
    exchange->respond({200, "application/json",
                       dump({{"prompt", context.model.tokenizer().decode(request.tokens, false)}})});
  });
}

const Registration<Endpoint> kTokenize{
    "POST /tokenize",
    {.summary = "token ids of a text or a conversation",
     .handle = &tokenize,
     .body_schema = [] { return tokenize_fields().schema(); },
     .response_schema = []() -> std::string {
       return R"({"type":"object","required":["count","max_model_len","tokens"]})";
     },
     .refusals = {404}}};
const Registration<Endpoint> kDetokenize{
    "POST /detokenize",
    {.summary = "the text of token ids",
     .handle = &detokenize,
     .body_schema = [] { return detokenize_fields().schema(); },
     .response_schema = []() -> std::string { return R"({"type":"object","required":["prompt"]})"; },
     .refusals = {404}}};

}  // namespace
}  // namespace flagscale::serve
