#include "serve/api_error.h"

#include <new>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "serve/json.h"

namespace flagscale::serve {

namespace {

const char* error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "service_unavailable_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

Json nullable(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

}  // namespace

std::string error_json(int status, const std::string& message, const std::string& param,
                       const std::string& code) {
  return dump({{"error",
                {{"message", message},
                 {"type", error_type(status)},
                 {"param", nullable(param)},
                 {"code", nullable(code)}}}});
}

net::Response error_response(int status, const std::string& message, const std::string& param,
                             const std::string& code) {
  net::Response response{status, "application/json", error_json(status, message, param, code)};
  if (status == 429 || status == 503) response.headers.emplace_back("Retry-After", "1");
  if (status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

net::Response busy_response(int64_t most) {
  return error_response(429, fmt::format("{} requests wait already: try again later", most), {},
                        "rate_limit_exceeded");
}

net::Response current_error() {
  try {
    throw;
  } catch (const ApiError& error) {
    return error_response(error.status(), error.what(), error.param(), error.code());
  } catch (const Error& error) {
    const int status = http_status(error.kind());
    if (status == 429) return error_response(status, error.what(), {}, "rate_limit_exceeded");
    if (status < 500 || error.kind() == ErrorKind::kDevice) return error_response(status, error.what());
    warn("a request failed: {}", error.what());
  } catch (const std::bad_alloc&) {
    warn("a request ran out of memory");
    return error_response(503, "out of memory");
  } catch (const std::exception& error) {
    warn("a request failed: {}", error.what());
  }
  return error_response(500, "internal error");
}

}  // namespace flagscale::serve
