#include "serve/endpoint/endpoint.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "serve/api_error.h"

namespace flagscale::serve {

namespace {

// A page of another site can make a browser post text, but not JSON without asking first.
void require_json(const net::Request& request) {
  const std::string_view type = request.header("Content-Type");
  if (type.substr(0, type.find(';')).find("json") == std::string_view::npos)
    throw ApiError(415, fmt::format("Content-Type must be application/json, got '{}'", type.substr(0, 64)));
}

}  // namespace

void with_json_body(Context& context, const std::shared_ptr<net::Exchange>& exchange,
                    std::function<void(const Json&, std::chrono::steady_clock::time_point)> work) {
  require_json(exchange->request());
  const auto arrival = std::chrono::steady_clock::now();
  const bool taken = context.workers.post([exchange, arrival, work = std::move(work)] {
    try {
      work(parse_json(exchange->request().body), arrival);
    } catch (...) {
      exchange->respond(current_error());
    }
  });
  if (!taken) throw ApiError(429, "too many requests wait", {}, "rate_limit_exceeded");
}

bool refuse_busy(const Context& context, const std::shared_ptr<net::Exchange>& exchange) {
  if (context.service.has_room()) return false;
  exchange->respond(context.busy);
  return true;
}

void check_count(const Context& context, const char* field, size_t texts) {
  if (texts > static_cast<size_t>(context.config.max_queued_requests))
    refuse(field,
           "{} has {} texts, at most {} are allowed: the requests that may wait (--max-queued-requests)",
           field, texts, context.config.max_queued_requests);
}

std::string check_model(const Context& context, const std::string& name) {
  if (name.empty()) return context.model.names[0];
  const std::string adapter = adapter_of(context, name);
  const engine::Adapters* adapters = context.service.runner().adapters();
  if (!adapter.empty() && !(adapters && adapters->find(adapter)))
    throw ApiError(404, fmt::format("The model `{}` does not exist.", name.substr(0, 256)), "model",
                   "model_not_found");
  return name;
}

std::string adapter_of(const Context& context, const std::string& name) {
  const auto& names = context.model.names;
  return std::find(names.begin(), names.end(), name) == names.end() ? name : "";
}

}  // namespace flagscale::serve
