#include "base/log.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/progress.h"
#include "base/transcript.h"

namespace flagscale {

namespace {

LogLevel initial_level() {
  const char* text = std::getenv("FLAGSCALE_LOG");
  const std::string_view value = text ? text : "";
  if (value == "quiet") return LogLevel::kQuiet;
  return value == "warning" ? LogLevel::kWarning : LogLevel::kInfo;
}

std::atomic<LogLevel>& current_level() {
  static std::atomic<LogLevel> level{initial_level()};
  return level;
}

}  // namespace

void set_log_level(LogLevel level) { current_level() = level; }

void detail::log_line(LogLevel level, std::string_view message) {
  if (level > current_level()) return;
  Progress::clear_line();
  std::string line(level == LogLevel::kWarning ? "flagscale: warning: " : "");
  line.append(message).push_back('\n');
  say(stderr, "{}", line);  // one write: lines of several threads do not interleave
}

}  // namespace flagscale
