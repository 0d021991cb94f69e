#pragma once
// The caller's mistakes. Throw Error with what was found, what was expected and, where there is one, the fix:
//   throw Error(ErrorKind::kInvalidArgument, "[rms_norm] weight is [2048], expected [4096]");
// Each boundary adds its own context with rethrow_with(). Our own bugs are FLAGSCALE_CHECK (base/check.h).

#include <fmt/core.h>

#include <stdexcept>
#include <string>

namespace flagscale {

enum class ErrorKind {
  kInvalidArgument,  // a flag, a value, a shape that the caller chose
  kNotFound,         // a file, a model, a tensor, a key that is not there
  kConfig,           // a configuration that does not compose or validate
  kCorrupt,          // bytes that are not what their format says
  kResource,         // memory, disk, permission
  kUnsupported,      // understood, but not done here
  kInterrupted,      // the user stopped it
  kBusy,             // as much waits as may: later it can be done
  kDevice,           // a GPU that failed or is lost: nothing more can be asked of it
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string message) : std::runtime_error(std::move(message)), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// Throws Error(kind, fmt::format(format, args...)).
template <class... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

// The one table from kind to what the outside sees.
int exit_code(ErrorKind kind);    // 2 for usage, 1 for the rest, 130 when interrupted
int http_status(ErrorKind kind);  // 400, 404, 413, 429, 500 or 503
const char* name(ErrorKind kind);

// Inside a catch block: rethrows the current Error as "context: message", anything else unchanged.
[[noreturn]] void rethrow_with(const std::string& context);

}  // namespace flagscale
