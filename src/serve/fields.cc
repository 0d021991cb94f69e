#include "serve/fields.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "serve/api_error.h"

namespace flagscale::serve {

namespace {

const char* kind_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::object:
      return "an object";
    default:
      return "a number";
  }
}

void check(const std::string& name, double value, const Range& range) {
  if (value >= range.least && value > range.above && value <= range.most) return;
  std::string wanted;
  const auto add = [&](const char* words, double bound) {
    if (std::isfinite(bound)) wanted += fmt::format("{}{} {}", wanted.empty() ? "" : " and ", words, bound);
  };
  add("at least", range.least);
  add("more than", range.above);
  add("at most", range.most);
  refuse(name, "{} must be {}, got {}", name, wanted, value);
}

Json bounds(const char* type, const Range& range) {
  Json schema = {{"type", {type, "null"}}};
  const auto set = [&](const char* key, double bound) {
    if (!std::isfinite(bound)) return;
    if (std::string_view(type) == "integer")
      schema[key] = static_cast<int64_t>(bound);
    else
      schema[key] = bound;
  };
  set("minimum", range.least);
  set("exclusiveMinimum", range.above);
  set("maximum", range.most);
  return schema;
}

}  // namespace

bool read_bool(const std::string& name, const Json& value) {
  if (!value.is_boolean()) refuse(name, "{} must be true or false, got {}", name, kind_of(value));
  return value.get<bool>();
}

int64_t read_integer(const std::string& name, const Json& value, const Range& range) {
  constexpr double kPast = 9223372036854775808.0;  // 2^63
  const double number = value.is_number() ? value.get<double>() : kPast;
  const bool fits = value.is_number_unsigned()  ? value.get<uint64_t>() <= uint64_t{INT64_MAX}
                    : value.is_number_integer() ? true
                                                : number == std::trunc(number) && std::abs(number) < kPast;
  if (!fits)
    refuse(name, "{} must be a whole number, got {}", name, value.is_number() ? dump(value) : kind_of(value));
  check(name, number, range);
  return value.is_number_integer() ? value.get<int64_t>() : static_cast<int64_t>(number);
}

double read_number(const std::string& name, const Json& value, const Range& range) {
  if (!value.is_number()) refuse(name, "{} must be a number, got {}", name, kind_of(value));
  const double number = value.get<double>();
  if (!std::isfinite(number)) refuse(name, "{} must be a finite number", name);
  check(name, number, range);
  return number;
}

const std::string& read_string(const std::string& name, const Json& value) {
  if (!value.is_string()) refuse(name, "{} must be a string, got {}", name, kind_of(value));
  return value.get_ref<const std::string&>();
}

std::vector<std::string> read_strings(const std::string& name, const Json& value, size_t most) {
  if (value.is_string()) return {value.get<std::string>()};
  if (!value.is_array())
    refuse(name, "{} must be a string or a list of strings, got {}", name, kind_of(value));
  if (value.size() > most)
    throw ApiError(422, fmt::format("{} has {} items, at most {} are allowed", name, value.size(), most),
                   name);
  std::vector<std::string> result;
  for (const Json& item : value) result.push_back(read_string(name, item));
  return result;
}

std::vector<int32_t> read_ids(const std::string& name, const Json& value, size_t most) {
  if (!value.is_array()) refuse(name, "{} must be a list of token ids, got {}", name, kind_of(value));
  if (value.size() > most)
    throw ApiError(422, fmt::format("{} has {} items, at most {} are allowed", name, value.size(), most),
                   name);
  std::vector<int32_t> ids;
  ids.reserve(value.size());
  for (const Json& item : value)
    ids.push_back(static_cast<int32_t>(read_integer(name, item, {.least = 0, .most = 2147483647})));
  return ids;
}

std::string bool_schema() { return R"({"type":["boolean","null"]})"; }
std::string integer_schema(const Range& range) { return dump(bounds("integer", range)); }
std::string number_schema(const Range& range) { return dump(bounds("number", range)); }
std::string string_schema() { return R"({"type":["string","null"]})"; }
std::string choice_schema(const std::vector<std::string>& values) {
  Json schema = {{"type", {"string", "null"}}, {"enum", values}};
  schema["enum"].push_back(nullptr);
  return dump(schema);
}

const Json* FieldTable::find(const Info& info, const Json& object) {
  const auto it = object.find(info.name);
  if (it != object.end() && !it->is_null()) return &*it;
  if (info.required)
    throw ApiError(400, "the field '" + info.name + "' is missing", info.name, "missing_required_parameter");
  return nullptr;
}

void FieldTable::require_object(const Json& value) {
  if (!value.is_object())
    throw ApiError(400, fmt::format("the body must be a JSON object, got {}", kind_of(value)));
}

std::vector<std::string> FieldTable::names() const {
  std::vector<std::string> names;
  for (const Info& info : infos_) names.push_back(info.name);
  return names;
}

std::string FieldTable::schema() const {
  Json properties = Json::object(), required = Json::array();
  for (const Info& info : infos_) {
    Json schema = Json::parse(info.schema);
    if (!info.doc.empty()) schema["description"] = info.doc;
    properties[info.name] = std::move(schema);
    if (info.required) required.push_back(info.name);
  }
  Json result = {{"type", "object"}, {"properties", std::move(properties)}};
  if (!required.empty()) result["required"] = std::move(required);
  return dump(result);
}

}  // namespace flagscale::serve
