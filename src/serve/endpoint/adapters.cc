// POST /v1/load_lora_adapter and /v1/unload_lora_adapter: refused, since the engine has no adapters.

#include "serve/api_error.h"
#include "serve/endpoint/endpoint.h"

namespace flagscale::serve {
namespace {

void refuse_adapter(Context&, const std::shared_ptr<net::Exchange>&) {
  throw ApiError(400, "this server has no adapters: LoRA is not enabled", {}, "lora_disabled");
}

std::string any_object() { return R"({"type":"object"})"; }

const Registration<Endpoint> kLoadAdapter{
    "POST /v1/load_lora_adapter",
    {.summary = "refused: no adapters here", .handle = &refuse_adapter, .body_schema = &any_object}};
const Registration<Endpoint> kUnloadAdapter{
    "POST /v1/unload_lora_adapter",
    {.summary = "refused: no adapters here", .handle = &refuse_adapter, .body_schema = &any_object}};

}  // namespace
}  // namespace flagscale::serve
