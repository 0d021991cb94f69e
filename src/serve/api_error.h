#pragma once
// What an endpoint refuses, in OpenAI's shape: {"error": {"message", "type", "param", "code"}}.

#include <stdexcept>
#include <string>

#include "base/error.h"
#include "net/http.h"

namespace flagscale::serve {

class ApiError : public std::runtime_error {
 public:
  ApiError(int status, std::string message, std::string param = {}, std::string code = {})
      : std::runtime_error(std::move(message)),
        status_(status),
        param_(std::move(param)),
        code_(std::move(code)) {}
  int status() const { return status_; }
  const std::string& param() const { return param_; }
  const std::string& code() const { return code_; }

 private:
  int status_;
  std::string param_, code_;  // "": null
};

// 400 that names the field.
template <class... Args>
[[noreturn]] void refuse(const std::string& param, fmt::format_string<Args...> format, Args&&... args) {
  throw ApiError(400, fmt::format(format, std::forward<Args>(args)...), param);
}

std::string error_json(int status, const std::string& message, const std::string& param = {},
                       const std::string& code = {});
net::Response error_response(int status, const std::string& message, const std::string& param = {},
                             const std::string& code = {});

// 429: `most` requests wait.
net::Response busy_response(int64_t most);

// Inside a catch block: the answer to the current exception. What is our fault says no more than that.
net::Response current_error();

}  // namespace flagscale::serve
