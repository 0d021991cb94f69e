#include "serve/request/schema_cost.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "serve/api_error.h"

namespace flagscale::serve {

namespace {

// Microseconds on one core of a Zen 4, measured: a property with its value, a pair of properties of one
// object, a value of an enum, a state of the automaton that divides.
constexpr double kProperty = 33, kPair = 0.11, kValue = 3, kState = 8;
constexpr double kMostCost = 150'000;
constexpr size_t kMostOptional = 480;  // of one object: 4 Earley items each, 2000 in all
constexpr double kMostStates = 10'000;
constexpr size_t kMostReferences = 2000;  // each is followed, and in a chain a few times: some 8 us

struct SchemaCost {
  double microseconds = 0;
  double divisors = 0, product = 1;  // of all multipleOf: their sum and their product
  size_t optional = 0;               // in the object that has most
  size_t references = 0;
  bool combines = false;  // schemas may meet, and divisors with them: a number must obey both
};

size_t members(const Json& schema, const char* key) {
  const auto found = schema.find(key);
  return found != schema.end() && found->is_structured() ? found->size() : 0;
}

// The whole number that a multiple is one of, when both have no decimals left.
double divisor(const Json& multiple) {
  double value = std::abs(multiple.get<double>());
  for (int i = 0; i < 20 && std::isfinite(value) && value != std::floor(value); ++i) value *= 10;
  return value;
}

void add(const Json& schema, SchemaCost& cost) {
  if (!schema.is_structured()) return;
  for (const Json& inner : schema) add(inner, cost);
  if (!schema.is_object()) return;
  const size_t properties = members(schema, "properties"), required = members(schema, "required");
  const auto wide = static_cast<double>(std::max(properties, required));
  cost.microseconds += kProperty * wide + kPair * wide * wide;
  cost.microseconds += kValue * static_cast<double>(members(schema, "enum"));
  cost.optional = std::max(cost.optional, properties - std::min(properties, required));
  cost.references += schema.contains("$ref") + schema.contains("$dynamicRef");
  for (const char* key : {"allOf", "anyOf", "oneOf", "$ref", "$dynamicRef"})
    cost.combines |= schema.contains(key);
  if (const auto multiple = schema.find("multipleOf"); multiple != schema.end() && multiple->is_number()) {
    const double states = divisor(*multiple);
    cost.divisors += states;
    cost.product *= std::max(states, 1.0);
  }
}

}  // namespace

void check_schema_cost(const std::string& name, const Json& schema) {
  SchemaCost cost;
  add(schema, cost);
  if (cost.optional > kMostOptional)
    throw ApiError(
        422,
        fmt::format("{}: an object of the schema has {} properties that are not required, at most {} "
                    "are allowed",
                    name, cost.optional, kMostOptional),
        name);
  if (cost.references > kMostReferences)
    throw ApiError(422,
                   fmt::format("{}: the schema has {} references, at most {} are allowed", name,
                               cost.references, kMostReferences),
                   name);
  const double states = cost.combines ? cost.product : cost.divisors;
  if (!(states <= kMostStates))
    throw ApiError(
        422,
        fmt::format("{}: the multipleOf of the schema come to {:.0f} without decimals, at most {} is "
                    "allowed",
                    name, states, kMostStates),
        name);
  if (cost.microseconds + kState * states > kMostCost)
    throw ApiError(422, fmt::format("{}: the schema has too many properties and values to be followed", name),
                   name);
}

void check_embedded_schemas(const std::string& name, std::string_view grammar) {
  constexpr std::string_view kMark = "%json";
  for (size_t at = grammar.find(kMark); at != grammar.npos; at = grammar.find(kMark, at + 1)) {
    const size_t begin = grammar.find_first_not_of(" \t\r\n", at + kMark.size());
    if (begin == grammar.npos || grammar[begin] != '{') continue;
    size_t end = begin;
    for (int depth = 0; end < grammar.size();) {
      const char c = grammar[end++];
      if (c == '"') {
        while (end < grammar.size() && grammar[end] != '"') end += grammar[end] == '\\' ? 2 : 1;
        ++end;
      }
      depth += c == '{' ? 1 : c == '}' ? -1 : 0;
      if (depth == 0) break;
    }
    try {
      check_schema_cost(name, parse_json(grammar.substr(begin, end - begin)));
    } catch (const ApiError& error) {
      if (error.param() == name) throw;
      refuse(name, "{}: what follows %json at byte {}: {}", name, at, error.what());
    }
  }
}

}  // namespace flagscale::serve
