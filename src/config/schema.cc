#include "config/schema.h"

#include <algorithm>
#include <cmath>

#include "base/nearest.h"

namespace flagscale::config {
namespace {

std::string number_text(double value) {
  return value == std::floor(value) && std::abs(value) < 1e15 ? std::to_string(static_cast<int64_t>(value))
                                                              : python_float(value);
}

}  // namespace

std::string range_text(const Limits& limits) {
  if (!limits.choices.empty()) return fmt::format("{}", fmt::join(limits.choices, ", "));
  std::vector<std::string> parts;
  if (std::isfinite(limits.least)) parts.push_back("at least " + number_text(limits.least));
  if (std::isfinite(limits.above)) parts.push_back("above " + number_text(limits.above));
  if (std::isfinite(limits.most)) parts.push_back("at most " + number_text(limits.most));
  return fmt::format("{}", fmt::join(parts, ", "));
}

void check_limits(const Limits& limits, double value) {
  const bool inside =
      value >= limits.least && value <= limits.most && (std::isinf(limits.above) || value > limits.above);
  if (!inside) fail(ErrorKind::kConfig, "is {}, expected {}", number_text(value), range_text(limits));
}

void check_limits(const Limits& limits, const std::string& value) {
  if (limits.choices.empty() || std::count(limits.choices.begin(), limits.choices.end(), value) > 0) return;
  const std::string near = nearest(value, limits.choices);
  fail(ErrorKind::kConfig, "is '{}', expected one of: {}{}", value, range_text(limits),
       near.empty() ? "" : fmt::format("; did you mean {}?", near));
}

}  // namespace flagscale::config
