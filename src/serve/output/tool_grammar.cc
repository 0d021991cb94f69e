#include "serve/output/tool_grammar.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace flagscale::serve {

Json guided_schema(Json schema, bool lenient) {
  if (schema.contains("x-guidance")) return schema;
  schema["x-guidance"] = {{"whitespace_pattern", "[ \\t\\r\\n]{1,32}"}, {"lenient", lenient}};
  return schema;
}

std::string regex_text(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}/-&~#").find(c) != std::string_view::npos) result += '\\';
    result += c;
  }
  return result;
}

bool is_special_mark(const text::Tokenizer& tokenizer, const std::string& mark) {
  const auto id = tokenizer.token_to_id(mark);
  return id && tokenizer.is_special(*id);
}

std::string lark_mark(const text::Tokenizer& tokenizer, const std::string& mark) {
  if (is_special_mark(tokenizer, mark)) return fmt::format("<[{}]>", *tokenizer.token_to_id(mark));
  return json_string(mark);
}

std::string start_rule(const ToolSyntax& syntax, const std::string& answer) {
  using Thought = ToolSyntax::Thought;
  if (syntax.thought == Thought::kNone) return "start: " + answer + "\n";
  const bool inside = syntax.thought == Thought::kInside;
  return std::string("start: thought answer") + (inside ? "" : " | answer") + "\nanswer: " + answer +
         "\nthought[lazy]: /" + (inside ? "" : "[ \\t\\r\\n]*<think>") + "(.|\\n)*<\\/think>/\n";
}

std::string text_terminal(const ToolSyntax& syntax, const std::string& name, const std::string& expression) {
  const bool may_think = syntax.thought == ToolSyntax::Thought::kMay;
  return name + ": " + expression + (may_think ? " & ~/[ \\t\\r\\n]*<think>(.|\\n)*/" : "") + "\n";
}

std::string text_rules(const ToolSyntax& syntax, const std::string& mark) {
  const std::string text = text_terminal(syntax, "TEXT", "/(.|\\n)+/");
  if (is_special_mark(syntax.tokenizer, mark))
    return text + "lead: TEXT? " + lark_mark(syntax.tokenizer, mark) + "\n";
  return text + "lead[lazy]: LEAD\n" + text_terminal(syntax, "LEAD", "/(.|\\n)*" + regex_text(mark) + "/");
}

std::string argument_rules(const std::vector<ToolSchema>& tools) {
  std::string rules;
  for (size_t i = 0; i < tools.size(); ++i) {
    const Json schema = guided_schema(Json::parse(tools[i].parameters), true);
    rules += fmt::format("arguments_{}: %json {}\n", i, dump(schema));
  }
  return rules;
}

std::string call_rules(const std::vector<ToolSchema>& tools, const std::string& key,
                       const std::string& more) {
  std::string named;
  for (size_t i = 0; i < tools.size(); ++i)  // the name's JSON, as a literal of the grammar
    named +=
        fmt::format("{}{} KEY arguments_{}", i == 0 ? "" : " | ", json_string(json_string(tools[i].name)), i);
  const std::string s = kLarkSpace;
  return "call: OPEN named CLOSE\nnamed: " + named + "\nOPEN: /" + s + "\\{" + s + "\"name\"" + s + ":" + s +
         "/\nKEY: /" + s + "," + s + "\"" + key + "\"" + s + ":" + s + "/\nCLOSE: /" + s + more + "\\}/\n" +
         argument_rules(tools);
}

}  // namespace flagscale::serve
