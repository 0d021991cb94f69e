#include "config/read_value.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "config/yaml_scalar.h"

namespace flagscale::config {
namespace {

[[noreturn]] void expected(const char* what, const Node& node) {
  fail(ErrorKind::kConfig, "is {}, expected {}", python_repr(node), what);
}

// A quoted number counts as the number: on a command line there are only strings.
NodePtr number(const Node& node) {
  if (node.kind != Kind::kString) return nullptr;
  try {
    return plain_scalar(node.text);
  } catch (const Error&) {
    return nullptr;
  }
}

std::vector<NodePtr> list_items(const Node& node) {
  if (node.kind == Kind::kList) return node.items;
  std::vector<NodePtr> items;
  if (node.kind == Kind::kString) {
    std::istringstream words(node.text);
    for (std::string word; words >> word;) items.push_back(Node::string(word));
  } else if (node.kind == Kind::kMap) {
    expected("a list", node);
  } else {
    items.push_back(node.copy());
  }
  return items;
}

}  // namespace

void read_value(const Node& node, bool& value) {
  if (node.kind != Kind::kBool) expected("true or false", node);
  value = node.flag;
}

void read_value(const Node& node, int64_t& value) {
  const NodePtr quoted = number(node);
  const Node& from = quoted ? *quoted : node;
  // Whole floats too: FlagScale's own examples write rotary_base: 1000000.0.
  const bool whole = from.kind == Kind::kFloat && from.floating < 9e15 && from.floating > -9e15 &&
                     from.floating == std::trunc(from.floating);
  if (from.kind == Kind::kInt && !from.text.empty()) expected("an integer of at most 64 bits", node);
  if (!whole && from.kind != Kind::kInt) expected("an integer", node);
  value = whole ? static_cast<int64_t>(from.floating) : from.number;
}

void read_value(const Node& node, double& value) {
  const NodePtr quoted = number(node);
  const Node& from = quoted ? *quoted : node;
  if (from.kind != Kind::kInt && from.kind != Kind::kFloat) expected("a number", node);
  if (!std::isfinite(from.floating)) expected("a finite number", node);
  value = from.floating;
}

void read_value(const Node& node, std::string& value) {
  if (node.is_container()) expected("a string", node);
  value = python_str(node);
}

void read_value(const Node& node, std::vector<int64_t>& value) {
  value.clear();
  for (const NodePtr& item : list_items(node)) {
    value.emplace_back();
    read_value(*item, value.back());
  }
}

void read_value(const Node& node, std::vector<std::string>& value) {
  value.clear();
  for (const NodePtr& item : list_items(node)) {
    value.emplace_back();
    read_value(*item, value.back());
  }
}

std::string value_text(bool value) { return value ? "true" : "false"; }
std::string value_text(int64_t value) { return std::to_string(value); }
std::string value_text(double value) { return python_float(value); }
std::string value_text(const std::string& value) { return value; }
std::string value_text(const std::vector<int64_t>& value) {
  return value.empty() ? "" : fmt::format("[{}]", fmt::join(value, ", "));
}
std::string value_text(const std::vector<std::string>& value) {
  return value.empty() ? "" : fmt::format("[{}]", fmt::join(value, ", "));
}

std::string value_json(bool value) { return nlohmann::json(value).dump(); }
std::string value_json(int64_t value) { return nlohmann::json(value).dump(); }
std::string value_json(double value) { return nlohmann::json(value).dump(); }
std::string value_json(const std::string& value) {
  return value.empty() ? "null" : nlohmann::json(value).dump();
}
std::string value_json(const std::vector<int64_t>& value) { return nlohmann::json(value).dump(); }
std::string value_json(const std::vector<std::string>& value) { return nlohmann::json(value).dump(); }

}  // namespace flagscale::config
