#pragma once
// A route of the server: one file of this folder each, that registers itself as "METHOD /path". A path that
// ends in '*' takes everything below it.
//
//   const Registration<Endpoint> kPing{"GET /ping", {.summary = "is the server there?", .guard =
//   Guard::kOpen, .handle = &ping}};

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/registry.h"
#include "net/exchange.h"
#include "serve/context.h"
#include "serve/json.h"

namespace flagscale::serve {

enum class Guard {
  kKey,      // needs a key where the server has keys
  kMetrics,  // the same, unless metrics are public
  kOpen,
};

struct Endpoint {
  const char* summary = "";
  Guard guard = Guard::kKey;
  // Called on a connection's thread. Throws what current_error() answers.
  void (*handle)(Context& context, const std::shared_ptr<net::Exchange>& exchange) = nullptr;
  std::string (*body_schema)() = nullptr;      // JSON schema of the request's body; null: it has none
  std::string (*response_schema)() = nullptr;  // of a 200; null: any object
  const char* content_type = "application/json";
  std::vector<int> refusals = {};  // further statuses, beside those of its guard and its body
};

// Parses the body on a worker and calls `work` there; answers what it throws. 415 for a body that is not
// declared as JSON, 429 when too many wait.
void with_json_body(
    Context& context, const std::shared_ptr<net::Exchange>& exchange,
    std::function<void(const Json& body, std::chrono::steady_clock::time_point arrival)> work);

// Answers 429 where there is no room. Thousands of such a second may come: the request is not read, nothing
// is thrown, and the answer was made before.
bool refuse_busy(const Context& context, const std::shared_ptr<net::Exchange>& exchange);

// Throws ApiError 400 naming `field` for more texts in one request than may ever wait at once.
void check_count(const Context& context, const char* field, size_t texts);

// The name to answer with: the model's, or a LoRA adapter's. Throws ApiError 404 for one that is not served
// here.
std::string check_model(const Context& context, const std::string& name);
// The adapter that such a name stands for; "": the model itself.
std::string adapter_of(const Context& context, const std::string& name);

}  // namespace flagscale::serve
