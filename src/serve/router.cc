#include "serve/router.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "serve/api_error.h"
#include "serve/endpoint/endpoint.h"

namespace flagscale::serve {

namespace {

// Counts an exchange's answer, and adds to it what every answer has.
class CountedExchange final : public net::Exchange {
 public:
  CountedExchange(Context& context, std::shared_ptr<net::Exchange> inner)
      : context_(context), inner_(std::move(inner)) {}

  void set_handler(std::string name) { handler_ = std::move(name); }
  void add_header(std::string name, std::string value) {
    headers_.emplace_back(std::move(name), std::move(value));
  }

  const net::Request& request() const override { return inner_->request(); }
  void respond(net::Response response) override {
    finish(response);
    inner_->respond(std::move(response));
  }
  void begin(net::Response head) override {
    finish(head);
    inner_->begin(std::move(head));
  }
  void write(std::string data) override { inner_->write(std::move(data)); }
  void end() override { inner_->end(); }
  size_t unsent() const override { return inner_->unsent(); }
  void post(std::function<void()> work) override { inner_->post(std::move(work)); }
  void on_disconnect(std::function<void()> call) override { inner_->on_disconnect(std::move(call)); }

 private:
  void finish(net::Response& response) {
    if (counted_.exchange(true)) return;
    response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
    const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - arrival_).count();
    // A method of the peer's own making must not make a time series of its own.
    const bool known = request().method == "GET" || request().method == "POST" ||
                       request().method == "OPTIONS" || request().method == "HEAD";
    context_.metrics.count_http(handler_, known ? request().method : "other", response.status, took);
    if (context_.config.enable_log_requests)
      info("{} {} {} {} {:.1f} ms", request().remote, request().method, request().path, response.status,
           took * 1e3);
  }

  Context& context_;
  std::shared_ptr<net::Exchange> inner_;
  std::string handler_ = "none";
  net::Headers headers_;
  std::atomic<bool> counted_{false};
  const std::chrono::steady_clock::time_point arrival_ = std::chrono::steady_clock::now();
};

// Takes as long for a wrong key as for a right one.
bool same(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); ++i)
    difference |=
        static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b.empty() ? 0 : b[i % b.size()]);
  return difference == 0;
}

bool has_key(const Context& context, const net::Request& request) {
  std::string_view given = request.header("Authorization");
  constexpr std::string_view kScheme = "Bearer ";
  const auto lower = [](unsigned char c) { return std::tolower(c); };
  if (!std::ranges::equal(given.substr(0, kScheme.size()), kScheme, {}, lower, lower)) return false;
  given.remove_prefix(kScheme.size());
  bool found = false;
  for (const std::string& key : context.config.api_key) found |= same(given, key);
  return found;
}

void check_key(const Context& context, const Endpoint& endpoint, const net::Request& request) {
  if (context.config.api_key.empty() || endpoint.guard == Guard::kOpen) return;
  if (endpoint.guard == Guard::kMetrics && context.config.metrics_public) return;
  if (!has_key(context, request))
    throw ApiError(401, "this server needs an API key: send Authorization: Bearer KEY", {},
                   "invalid_api_key");
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

// A name that another site's DNS points at this machine must not reach a server that only this machine should
// (DNS rebinding): on loopback without a key, the host is an address, or a name without a public domain.
void check_host(const Context& context, const net::Request& request) {
  if (!is_loopback(context.config.host) || !context.config.api_key.empty()) return;
  std::string_view host = request.header("Host");
  if (host.starts_with('[')) return;
  host = host.substr(0, host.find(':'));
  if (host.find_first_not_of("0123456789.") == std::string_view::npos ||
      host.find('.') == std::string_view::npos)
    return;
  for (const char* suffix : {".localhost", ".local", ".internal"})
    if (host.ends_with(suffix)) return;
  throw ApiError(403, fmt::format("host '{}' is not this server's: it listens on {} only",
                                  host.substr(0, 128), context.config.host));
}

bool allowed_origin(const Context& context, std::string_view origin) {
  const auto& allowed = context.config.allowed_origins;
  return !origin.empty() && std::any_of(allowed.begin(), allowed.end(),
                                        [&](const std::string& one) { return one == "*" || one == origin; });
}

bool holds_any(const std::vector<std::string>& list) { return std::ranges::find(list, "*") != list.end(); }

// Of a request for leave, as vLLM's server grants it: with * every header that is asked for.
std::string granted_headers(const Context& context, const net::Request& request) {
  const auto& allowed = context.config.allowed_headers;
  if (!holds_any(allowed))
    return fmt::format("Accept, Accept-Language, Content-Language, Content-Type{}{}",
                       allowed.empty() ? "" : ", ", fmt::join(allowed, ", "));
  const std::string_view asked = request.header("Access-Control-Request-Headers");
  const auto in_list_of_names = [](unsigned char c) {
    return std::isalnum(c) ||
           std::string_view("!#$%&'*+-.^_`|~, ").find(static_cast<char>(c)) != std::string::npos;
  };
  if (asked.empty() || !std::ranges::all_of(asked, in_list_of_names)) return "Authorization, Content-Type";
  return std::string(asked);
}

// What a browser asks before a page of another site may call.
void answer_preflight(const Context& context, CountedExchange& exchange) {
  const auto& methods = context.config.allowed_methods;
  exchange.add_header("Access-Control-Allow-Methods", holds_any(methods)
                                                          ? "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
                                                          : fmt::format("{}", fmt::join(methods, ", ")));
  exchange.add_header("Access-Control-Allow-Headers", granted_headers(context, exchange.request()));
  exchange.add_header("Access-Control-Max-Age", "600");
  exchange.respond({204, "", ""});
}

struct Route {
  std::string name;
  const Endpoint* endpoint = nullptr;
};

Route find_route(const std::string& method, const std::string& path) {
  const auto& endpoints = Registry<Endpoint>::instance();
  std::string name = method + " " + path;
  if (const Endpoint* endpoint = endpoints.find(name)) return {name, endpoint};
  for (const std::string& one : endpoints.names())
    if (one.ends_with('*') && name.starts_with(std::string_view(one).substr(0, one.size() - 1)) &&
        name.size() >= one.size())
      return {one, endpoints.find(one)};
  return {};
}

void route(Context& context, const std::shared_ptr<CountedExchange>& exchange) {
  const net::Request& request = exchange->request();
  if (const std::string_view origin = request.header("Origin"); allowed_origin(context, origin)) {
    exchange->add_header("Access-Control-Allow-Origin", std::string(origin));
    exchange->add_header("Vary", "Origin");
    if (context.config.allow_credentials) exchange->add_header("Access-Control-Allow-Credentials", "true");
    if (request.method == "OPTIONS") return answer_preflight(context, *exchange);
  }
  check_host(context, request);
  const Route found = find_route(request.method == "HEAD" ? "GET" : request.method, request.path);
  if (!found.endpoint) {
    for (const char* method : {"GET", "POST"})
      if (find_route(method, request.path).endpoint) {
        exchange->add_header("Allow", method);
        throw ApiError(405, fmt::format("{} is answered to {} only", request.path, method));
      }
    throw ApiError(404, fmt::format("there is no {}", request.path.substr(0, 256)));
  }
  exchange->set_handler(found.name.substr(found.name.find(' ') + 1));
  check_key(context, *found.endpoint, request);
  if (context.draining && found.endpoint->body_schema) {
    const std::string failure = context.service.failure();
    throw ApiError(503, failure.empty() ? "the server is stopping" : failure);
  }
  found.endpoint->handle(context, exchange);
}

}  // namespace

net::Handler make_router(Context& context) {
  return [&context](const std::shared_ptr<net::Exchange>& inner) {
    const auto exchange = std::make_shared<CountedExchange>(context, inner);
    try {
      route(context, exchange);
    } catch (...) {
      exchange->respond(current_error());
    }
  };
}

}  // namespace flagscale::serve
