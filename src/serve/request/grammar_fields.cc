#include "serve/request/grammar_fields.h"

#include <nlohmann/json.hpp>

#include "serve/api_error.h"
#include "serve/fields.h"
#include "serve/output/tool_grammar.h"
#include "serve/request/sampling_request.h"
#include "serve/request/schema_cost.h"

namespace flagscale::serve {

namespace {

constexpr size_t kMostSchema = 256 << 10, kMostRegex = 16 << 10, kMostGrammar = 256 << 10,
                 kMostChoices = 4096;

engine::Grammar bounded(const std::string& name, const char* kind, std::string text, size_t most) {
  if (text.size() > most)
    throw ApiError(422, fmt::format("{} has {} bytes, at most {} are allowed", name, text.size(), most),
                   name);
  return {kind, std::move(text)};
}

engine::Grammar object_grammar() {
  return {"json_schema", dump(guided_schema(Json{{"type", "object"}}, false))};
}

Json parse_schema(const std::string& name, const std::string& text) {
  try {
    return parse_json(text);
  } catch (const ApiError&) {
    refuse(name, "{}: the text is not JSON", name);
  }
}

}  // namespace

engine::Grammar json_grammar(const std::string& name, const Json& schema) {
  const Json parsed = schema.is_string() ? parse_schema(name, schema.get_ref<const std::string&>()) : schema;
  if (!parsed.is_object() && !parsed.is_boolean()) refuse(name, "{} must be a JSON schema", name);
  engine::Grammar grammar = bounded(
      name, "json_schema", dump(parsed.is_object() ? guided_schema(parsed, false) : parsed), kMostSchema);
  check_schema_cost(name, parsed);
  return grammar;
}

engine::Grammar regex_grammar(const std::string& name, const Json& value) {
  return bounded(name, "regex", read_string(name, value), kMostRegex);
}
engine::Grammar lark_grammar(const std::string& name, const Json& value) {
  engine::Grammar grammar = bounded(name, "lark", read_string(name, value), kMostGrammar);
  check_embedded_schemas(name, grammar.text);
  return grammar;
}

engine::Grammar choice_grammar(const std::string& name, const Json& value) {
  const auto choices = read_strings(name, value, kMostChoices);
  if (choices.empty()) refuse(name, "{} must not be empty", name);
  std::string expression;
  for (const std::string& choice : choices)
    expression += (expression.empty() ? "(" : "|") + regex_text(choice);
  return bounded(name, "regex", expression + ")", kMostGrammar);
}

engine::Grammar read_response_format(const std::string& name, const Json& value) {
  if (!value.is_object() || !value.contains("type")) refuse(name, "{} must be an object with a type", name);
  const std::string& type = read_string(name + ".type", value["type"]);
  if (type == "text") return {};
  if (type == "json_object") return object_grammar();
  if (type != "json_schema")
    refuse(name, "{}.type must be text, json_object or json_schema, got '{}'", name, type.substr(0, 64));
  const auto inner = value.find("json_schema");
  if (inner == value.end() || !inner->is_object() || !inner->contains("schema"))
    refuse(name, "{}.json_schema.schema is missing", name);
  return json_grammar(name, (*inner)["schema"]);
}

engine::Grammar read_structured_outputs(const std::string& name, const Json& value) {
  if (!value.is_object()) refuse(name, "{} must be an object", name);
  engine::Grammar grammar;
  for (const auto& [key, inner] : value.items()) {
    if (inner.is_null()) continue;
    const std::string where = name + "." + key;
    if (key == "json")
      set_grammar(grammar, json_grammar(where, inner), where);
    else if (key == "regex")
      set_grammar(grammar, regex_grammar(where, inner), where);
    else if (key == "choice")
      set_grammar(grammar, choice_grammar(where, inner), where);
    else if (key == "grammar")
      set_grammar(grammar, lark_grammar(where, inner), where);
    else if (key == "json_object")
      set_grammar(grammar, read_bool(where, inner) ? object_grammar() : engine::Grammar{}, where);
    else if (key == "structural_tag")
      refuse(where, "{} is not supported", where);
    else if (key.starts_with("disable_") || key == "whitespace_pattern")
      continue;  // of vLLM's own backends
    else         // a misspelt constraint must not pass for none
      refuse(where, "there is no {}; there are json, regex, choice, grammar and json_object", where);
  }
  return grammar;
}

void set_grammar(engine::Grammar& grammar, engine::Grammar given, const std::string& name) {
  if (given.kind.empty()) return;
  if (!grammar.kind.empty())
    refuse(
        name,
        "{}: the output is constrained twice; give one of response_format, structured_outputs and guided_*",
        name);
  grammar = std::move(given);
}

void set_grammar(SamplingRequest& request, engine::Grammar given, const std::string& name) {
  set_grammar(request.grammar, std::move(given), name);
  if (!request.grammar.kind.empty()) request.grammar_field = name;
}

}  // namespace flagscale::serve
