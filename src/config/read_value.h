#pragma once
// From a resolved node to a C++ value, as a command line flag of that type would take it: numbers may be
// quoted, a list may be one item. Each throws Error{kConfig} saying what was expected.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/node.h"

namespace flagscale::config {

void read_value(const Node& node, bool& value);
void read_value(const Node& node, int64_t& value);
void read_value(const Node& node, double& value);
void read_value(const Node& node, std::string& value);           // any scalar, as Python's str() writes it
void read_value(const Node& node, std::vector<int64_t>& value);  // a list, or words in one string
void read_value(const Node& node, std::vector<std::string>& value);  // a list, or words in one string

inline const char* type_name(const bool&) { return "flag"; }
inline const char* type_name(const int64_t&) { return "int"; }
inline const char* type_name(const double&) { return "float"; }
inline const char* type_name(const std::string&) { return "string"; }
inline const char* type_name(const std::vector<int64_t>&) { return "list of ints"; }
inline const char* type_name(const std::vector<std::string>&) { return "list of strings"; }

// As a configuration would write it; "" for an empty string or list.
std::string value_text(bool value);
std::string value_text(int64_t value);
std::string value_text(double value);
std::string value_text(const std::string& value);
std::string value_text(const std::vector<int64_t>& value);
std::string value_text(const std::vector<std::string>& value);

// As JSON; null for an empty string.
std::string value_json(bool value);
std::string value_json(int64_t value);
std::string value_json(double value);
std::string value_json(const std::string& value);
std::string value_json(const std::vector<int64_t>& value);
std::string value_json(const std::vector<std::string>& value);

template <class T>
void read_value(const Node& node, std::optional<T>& value) {
  T inner{};
  read_value(node, inner);
  value = std::move(inner);
}
template <class T>
const char* type_name(const std::optional<T>&) {
  return type_name(T{});
}
template <class T>
std::string value_text(const std::optional<T>& value) {
  return value ? value_text(*value) : std::string();
}
template <class T>
std::string value_json(const std::optional<T>& value) {
  return value ? value_json(*value) : "null";
}

}  // namespace flagscale::config
