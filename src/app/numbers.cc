#include "app/numbers.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <concepts>
#include <limits>
#include <optional>
#include <string>

namespace flagscale {
namespace {

// As a whole; "+5" too. Nothing for a text that is no number, or one beyond the type.
template <class T>
std::optional<T> number_of(const std::string& text) {
  const char *begin = text.data() + (text.starts_with('+') ? 1 : 0), *end = text.data() + text.size();
  T value{};
  const auto [stop, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

template <class T>
CLI::Validator whole_number(T least, T most, const std::string& description) {
  return CLI::Validator(
      [=](std::string& text) {
        const auto value = number_of<T>(text);
        if (value && *value >= least && *value <= most) return std::string();
        return fmt::format("'{}' is not a whole number from {} to {}", text, least, most);
      },
      description);
}

std::string range_of(double least, double most) {
  if (std::isinf(least) && std::isinf(most)) return "";
  return std::isinf(most) ? fmt::format(" of at least {:g}", least)
                          : fmt::format(" from {:g} to {:g}", least, most);
}

CLI::Validator real_number(double least, double most, const std::string& description) {
  return CLI::Validator(
      [=](std::string& text) {
        const auto value = number_of<double>(text);
        if (value && *value >= least && *value <= most) return std::string();  // never NaN
        return fmt::format("'{}' is not a number{}", text, range_of(least, most));
      },
      description);
}

constexpr double kAny = std::numeric_limits<double>::infinity();

void check_number(CLI::Option& option) {
  const std::string type = option.get_type_name();
  if (type.starts_with("UINT"))
    option.check(whole_number<uint64_t>(0, std::numeric_limits<uint64_t>::max(), ""));
  else if (type.starts_with("INT"))
    option.check(
        whole_number<int64_t>(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(), ""));
  else if (type.starts_with("FLOAT"))
    option.check(real_number(-kAny, kAny, ""));
}

}  // namespace

template <class T>
CLI::Validator between(T least, T most) {
  if constexpr (std::integral<T>)
    return whole_number<int64_t>(least, most, fmt::format("{} to {}", least, most));
  else
    return real_number(
        static_cast<double>(least), static_cast<double>(most),
        std::isinf(most) ? fmt::format("at least {:g}", least) : fmt::format("{:g} to {:g}", least, most));
}
template CLI::Validator between(int, int);
template CLI::Validator between(int64_t, int64_t);
template CLI::Validator between(float, float);
template CLI::Validator between(double, double);

void check_numbers(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) check_number(*option);
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) check_numbers(*command);
}

}  // namespace flagscale
