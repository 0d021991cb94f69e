#pragma once
// Messages for people, on stderr, one line each. Results go to stdout, so the two never mix.

#include <fmt/core.h>

#include <string_view>

namespace flagscale {

enum class LogLevel { kQuiet, kWarning, kInfo };

// Messages above the level are dropped. The default, kInfo, is what FLAGSCALE_LOG=quiet|warning|info
// overrides.
void set_log_level(LogLevel level);

namespace detail {
void log_line(LogLevel level, std::string_view message);
}

template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  detail::log_line(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}

// Printed as "flagscale: warning: message".
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  detail::log_line(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace flagscale
