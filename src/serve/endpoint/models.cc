// GET /v1/models and /v1/models/{name}

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "serve/api_error.h"
#include "serve/endpoint/endpoint.h"

namespace flagscale::serve {
namespace {

// adapter: null for the model itself.
Json card(const ServedModel& model, const std::string& name, const engine::Adapter* adapter = nullptr) {
  return {{"id", name},
          {"object", "model"},
          {"created", model.created},
          {"owned_by", "flagscale"},
          {"root", adapter ? adapter->path : model.loaded.path},
          {"parent", adapter ? Json(model.names[0]) : Json(nullptr)},
          {"max_model_len", model.limits.max_model_len}};
}

// %2F and its like; a name may have slashes.
std::string unescaped(std::string_view path) {
  std::string text;
  for (size_t i = 0; i < path.size(); ++i) {
    const auto digit = [&](size_t at) {
      return std::string_view("0123456789abcdef")
          .find(static_cast<char>(std::tolower(static_cast<unsigned char>(path[at]))));
    };
    if (path[i] == '%' && i + 2 < path.size() && digit(i + 1) < 16 && digit(i + 2) < 16) {
      text += static_cast<char>(digit(i + 1) * 16 + digit(i + 2));
      i += 2;
    } else {
      text += path[i];
    }
  }
  return text;
}

void list(Context& context, const std::shared_ptr<net::Exchange>& exchange) {
  Json data = Json::array();
  for (const std::string& name : context.model.names) data.push_back(card(context.model, name));
  if (const engine::Adapters* adapters = context.service.runner().adapters())
    for (const auto& adapter : adapters->list())
      data.push_back(card(context.model, adapter->name, adapter.get()));
  exchange->respond({200, "application/json", dump({{"object", "list"}, {"data", std::move(data)}})});
}

void one(Context& context, const std::shared_ptr<net::Exchange>& exchange) {
  constexpr std::string_view kPrefix = "/v1/models/";
  const std::string name = unescaped(std::string_view(exchange->request().path).substr(kPrefix.size()));
  const std::string known = check_model(context, name.empty() ? "/" : name);
  const std::string adapter_name = adapter_of(context, known);
  const auto adapter =
      adapter_name.empty() ? nullptr : context.service.runner().adapters()->find(adapter_name);
  exchange->respond({200, "application/json", dump(card(context.model, known, adapter.get()))});
}

const Registration<Endpoint> kModels{
    "GET /v1/models",
    {.summary = "what is served", .handle = &list, .response_schema = []() -> std::string {
       return R"({"type":"object","required":["object","data"],"properties":{"object":{"const":"list"}}})";
     }}};
const Registration<Endpoint> kModel{"GET /v1/models/*",
                                    {.summary = "one of the models", .handle = &one, .refusals = {404}}};

}  // namespace
}  // namespace flagscale::serve
