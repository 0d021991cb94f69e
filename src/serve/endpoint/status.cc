// GET /health, /ping, /version, /load, /metrics: what watches a server asks.

#include <fmt/format.h>

#include "serve/api_error.h"
#include "serve/endpoint/endpoint.h"

namespace flagscale::serve {
namespace {

// A process that answers is not enough: the engine must get on, too.
void health(Context& context, const std::shared_ptr<net::Exchange>& exchange) {
  if (const std::string failure = context.service.failure(); !failure.empty()) throw ApiError(503, failure);
  if (context.draining) throw ApiError(503, "the server is stopping");
  const double stalled = context.service.stalled_seconds();
  if (stalled > context.config.health_stall_seconds)
    throw ApiError(503, fmt::format("the engine has not got on for {:.1f} s", stalled));
  exchange->respond({200, "", ""});
}

void version(Context&, const std::shared_ptr<net::Exchange>& exchange) {
  exchange->respond({200, "application/json", fmt::format("{{\"version\":\"{}\"}}", FLAGSCALE_VERSION)});
}

void load(Context& context, const std::shared_ptr<net::Exchange>& exchange) {
  exchange->respond(
      {200, "application/json", fmt::format("{{\"server_load\":{}}}", context.metrics.in_flight.load())});
}

void metrics(Context& context, const std::shared_ptr<net::Exchange>& exchange) {
  const engine::RunnerOptions& options = context.service.runner().options();
  const Metrics::Cache cache{16, options.pages, std::string(name(*options.cache))};
  std::string lora;
  if (const engine::Adapters* adapters = context.service.runner().adapters()) {
    const auto use = context.service.adapter_use();
    lora = lora_requests_info(adapters->most(), use.running, use.waiting);
  }
  exchange->respond({200, "text/plain; version=0.0.4; charset=utf-8",
                     context.metrics.text(context.service.stats(), context.model.names[0], cache, lora)});
}

const Registration<Endpoint> kHealth{"GET /health",
                                     {.summary = "200 while the engine gets on",
                                      .guard = Guard::kOpen,
                                      .handle = &health,
                                      .content_type = ""}};
const Registration<Endpoint> kPing{
    "GET /ping",
    {.summary = "the same, as SageMaker asks", .guard = Guard::kOpen, .handle = &health, .content_type = ""}};
const Registration<Endpoint> kVersion{"GET /version", {.summary = "of this program", .handle = &version}};
const Registration<Endpoint> kLoad{"GET /load", {.summary = "requests that are under way", .handle = &load}};
const Registration<Endpoint> kMetrics{"GET /metrics",
                                      {.summary = "for Prometheus, under vLLM's names",
                                       .guard = Guard::kMetrics,
                                       .handle = &metrics,
                                       .content_type = "text/plain"}};

}  // namespace
}  // namespace flagscale::serve
