#include "launch/launcher/node_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/error.h"

namespace flagscale::launch {

namespace {

constexpr size_t kMostHosts = 65536;

[[noreturn]] void refuse(std::string_view list, const char* why) {
  fail(ErrorKind::kConfig, "the node list '{}' does not parse: {}", list.substr(0, 200), why);
}

// Parts between commas that stand outside of brackets.
std::vector<std::string_view> parts(std::string_view list) {
  std::vector<std::string_view> result;
  size_t begin = 0;
  bool inside = false;
  for (size_t i = 0; i <= list.size(); ++i) {
    if (i == list.size() || (list[i] == ',' && !inside)) {
      result.push_back(list.substr(begin, i - begin));
      begin = i + 1;
    } else if (list[i] == '[' || list[i] == ']') {
      if (inside == (list[i] == '[')) refuse(list, "its brackets do not match");
      inside = !inside;
    }
  }
  if (inside) refuse(list, "a bracket is not closed");
  return result;
}

size_t range_number(std::string_view text, std::string_view list) {
  size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.size() > 9)
    refuse(list, "a number is expected");
  return value;
}

// "01-03,7": each number with the width that the range's first one has.
std::vector<std::string> numbers(std::string_view ranges, std::string_view list) {
  std::vector<std::string> result;
  for (const std::string_view range : parts(ranges)) {
    const size_t dash = range.find('-');
    const std::string_view first = range.substr(0, dash);
    const size_t low = range_number(first, list);
    const size_t high = dash == std::string_view::npos ? low : range_number(range.substr(dash + 1), list);
    if (high < low) refuse(list, "a range ends before it begins");
    if (high - low >= kMostHosts || result.size() + high - low >= kMostHosts)
      refuse(list, "it has too many hosts");
    for (size_t n = low; n <= high; ++n) result.push_back(fmt::format("{:0{}}", n, first.size()));
  }
  return result;
}

// One name with its brackets multiplied out, from left to right.
std::vector<std::string> expand_name(std::string_view name, std::string_view list) {
  const size_t open = name.find('[');
  if (open == std::string_view::npos) return {std::string(name)};
  const size_t close = name.find(']', open);
  const auto heads = numbers(name.substr(open + 1, close - open - 1), list);
  const auto tails = expand_name(name.substr(close + 1), list);
  if (heads.size() * tails.size() > kMostHosts) refuse(list, "it has too many hosts");
  std::vector<std::string> result;
  for (const std::string& head : heads)
    for (const std::string& tail : tails) result.push_back(std::string(name.substr(0, open)) + head + tail);
  return result;
}

}  // namespace

std::vector<std::string> expand_node_list(const std::string& list) {
  std::vector<std::string> hosts;
  for (const std::string_view part : parts(list)) {
    if (part.empty()) refuse(list, "a name is empty");
    for (std::string& host : expand_name(part, list)) hosts.push_back(std::move(host));
    if (hosts.size() > kMostHosts) refuse(list, "it has too many hosts");
  }
  return hosts;
}

std::vector<int> expand_counts(const std::string& list) {
  std::vector<int> counts;
  for (const std::string_view part : parts(list)) {
    const size_t open = part.find("(x");
    if (open != std::string_view::npos && !part.ends_with(')')) refuse(list, "a parenthesis is not closed");
    const size_t count = range_number(part.substr(0, open), list);
    const size_t times = open == std::string_view::npos
                             ? 1
                             : range_number(part.substr(open + 2, part.size() - open - 3), list);
    if (times > kMostHosts - std::min(counts.size(), kMostHosts)) refuse(list, "it has too many hosts");
    counts.insert(counts.end(), times, static_cast<int>(count));
  }
  return counts;
}

}  // namespace flagscale::launch
