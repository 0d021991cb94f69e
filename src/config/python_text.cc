// How Python's str() and repr() write values: what string interpolation and key names are made of.

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "config/node.h"

namespace flagscale::config {
namespace {

std::string quoted(const std::string& text) {
  const bool use_double = text.find('\'') != std::string::npos && text.find('"') == std::string::npos;
  const char quote = use_double ? '"' : '\'';
  std::string result(1, quote);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == quote || c == '\\')
      result += {'\\', c};
    else if (c == '\n')
      result += "\\n";
    else if (c == '\t')
      result += "\\t";
    else if (c == '\r')
      result += "\\r";
    else if (byte < 0x20 || byte == 0x7f)
      result += fmt::format("\\x{:02x}", byte);
    else
      result += c;
  }
  return result + quote;
}

std::string key_repr(const Key& key) { return key.kind == Kind::kString ? quoted(key.text) : key.text; }

}  // namespace

// The shortest digits that read back, in scientific notation below 1e-4 and from 1e16 on.
std::string python_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto scientific = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string text(buffer, scientific.ptr);
  const int exponent = std::atoi(text.c_str() + text.find('e') + 1);
  if (value == 0 || (exponent >= -4 && exponent < 16)) {
    const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
    text.assign(buffer, fixed.ptr);
    if (text.find('.') == std::string::npos) text += ".0";
  }
  return text;
}

std::string python_str(const Node& node) {
  return node.kind == Kind::kString ? node.text : python_repr(node);
}

std::string python_repr(const Node& node) {
  std::string result;
  switch (node.kind) {
    case Kind::kNull:
      return "None";
    case Kind::kBool:
      return node.flag ? "True" : "False";
    case Kind::kInt:
      return node.text.empty() ? std::to_string(node.number) : node.text;
    case Kind::kFloat:
      return python_float(node.floating);
    case Kind::kString:
      return quoted(node.text);
    case Kind::kMap:
      for (const Entry& entry : node.entries)
        result += (result.empty() ? "" : ", ") + key_repr(entry.key) + ": " + python_repr(*entry.value);
      return "{" + result + "}";
    case Kind::kList:
      for (const NodePtr& item : node.items) result += (result.empty() ? "" : ", ") + python_repr(*item);
      return "[" + result + "]";
  }
  return result;
}

}  // namespace flagscale::config
