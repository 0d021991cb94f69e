// POST /v1/completions

#include <nlohmann/json.hpp>

#include "serve/endpoint/endpoint.h"
#include "serve/generation/completion_plan.h"

namespace flagscale::serve {
namespace {

void completions(Context& context, const std::shared_ptr<net::Exchange>& exchange) {
  if (refuse_busy(context, exchange)) return;
  with_json_body(context, exchange, [&context, exchange](const Json& body, auto arrival) {
    CompletionRequest request = read_completion_request(body);
    request.include_usage |= context.config.enable_force_include_usage;
    const std::string name = check_model(context, request.model);
    check_count(context, "prompt", request.prompts.size());
    GenerationPlan plan = completion_plan(context.model, name, request);
    for (engine::Request& work : plan.requests) work.adapter = adapter_of(context, name);
    Generation::start(context, exchange, std::move(plan), arrival);
  });
}

std::string completion_response_schema() {
  return R"({"type":"object","required":["id","object","created","model","choices","usage"],"properties":{"id":{"type":"string"},"object":{"const":"text_completion"},
"created":{"type":"integer"},"model":{"type":"string"},"choices":{"type":"array","items":{"type":"object","required":["index","text","logprobs","finish_reason"],
"properties":{"index":{"type":"integer"},"text":{"type":"string"},"finish_reason":{"enum":["stop","length","abort"]}}}},
"usage":{"type":"object","required":["prompt_tokens","completion_tokens","total_tokens"]}}})";
}

const Registration<Endpoint> kCompletions{"POST /v1/completions",
                                          {.summary = "continuations of texts",
                                           .handle = &completions,
                                           .body_schema = [] { return completion_fields().schema(); },
                                           .response_schema = &completion_response_schema,
                                           .refusals = {404}}};

}  // namespace
}  // namespace flagscale::serve
