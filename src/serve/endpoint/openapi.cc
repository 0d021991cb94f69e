// GET /openapi.json: made from the routes and from the descriptors that read their requests.

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "serve/endpoint/endpoint.h"

namespace flagscale::serve {
namespace {

const char* kErrorSchema =
    R"({"type":"object","required":["error"],"properties":{"error":{"type":"object","required":["message","type","param","code"],
"properties":{"message":{"type":"string"},"type":{"type":"string"},"param":{"type":["string","null"]},"code":{"type":["string","null"]}}}}})";

Json responses(const Endpoint& endpoint) {
  Json success = {{"description", "done"}};
  const std::string type = endpoint.content_type;
  if (type == "application/json")
    success["content"][type]["schema"] =
        endpoint.response_schema ? Json::parse(endpoint.response_schema()) : Json{{"type", "object"}};
  if (endpoint.body_schema && Json::parse(endpoint.body_schema())["properties"].contains("stream"))
    success["content"]["text/event-stream"]["schema"] = {{"type", "string"}};
  else if (type != "application/json" && !type.empty())
    success["content"][type]["schema"] = {{"type", "string"}};
  std::vector<int> refusals = endpoint.refusals;
  // Of any request: malformed, to another host, slow, in need of what fails, one connection too many.
  refusals.insert(refusals.end(), {400, 403, 408, 431, 500, 503});
  if (endpoint.guard != Guard::kOpen) refusals.push_back(401);
  if (endpoint.body_schema) refusals.insert(refusals.end(), {413, 415, 422, 429});
  std::sort(refusals.begin(), refusals.end());
  Json all = {{"200", std::move(success)}};
  for (const int status : refusals)
    all[std::to_string(status)] = {
        {"description", net::reason(status)},
        {"content", {{"application/json", {{"schema", {{"$ref", "#/components/schemas/Error"}}}}}}}};
  return all;
}

Json operation(const std::string& path, const Endpoint& endpoint) {
  Json result = {{"summary", endpoint.summary}};
  if (path.ends_with("{name}"))
    result["parameters"] = Json::array(
        {{{"name", "name"}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}}});
  if (endpoint.body_schema)
    result["requestBody"] = {
        {"required", true},
        {"content", {{"application/json", {{"schema", Json::parse(endpoint.body_schema())}}}}}};
  result["responses"] = responses(endpoint);
  if (endpoint.guard == Guard::kOpen) result["security"] = Json::array();
  return result;
}

void openapi(Context&, const std::shared_ptr<net::Exchange>& exchange) {
  static const std::string document = [] {
    Json paths = Json::object();
    const auto& endpoints = Registry<Endpoint>::instance();
    for (const std::string& name : endpoints.names()) {
      const size_t space = name.find(' ');
      std::string method = name.substr(0, space), path = name.substr(space + 1);
      for (char& c : method) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      if (path.ends_with('*')) path.replace(path.size() - 1, 1, "{name}");
      paths[path][method] = operation(path, *endpoints.find(name));
    }
    return dump({{"openapi", "3.1.0"},
                 {"info",
                  {{"title", "flagscale"},
                   {"version", FLAGSCALE_VERSION},
                   {"description",
                    "Another method of a path is answered with 405 and Allow, another path with 404."}}},
                 {"security", Json::array({{{"key", Json::array()}}, Json::object()})},
                 {"paths", std::move(paths)},
                 {"components",
                  {{"schemas", {{"Error", Json::parse(kErrorSchema)}}},
                   {"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}}});
  }();
  exchange->respond({200, "application/json", document});
}

const Registration<Endpoint> kOpenApi{"GET /openapi.json", {.summary = "this document", .handle = &openapi}};

}  // namespace
}  // namespace flagscale::serve
