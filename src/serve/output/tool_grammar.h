#pragma once
// Grammars under which a model writes text freely, and a tool call only as its schema allows: a call is valid
// by construction, whether there is one is the model's choice.

#include <string>
#include <vector>

#include "serve/json.h"
#include "text/tokenizer.h"

namespace flagscale::serve {

struct ToolSchema {
  std::string name, parameters;  // parameters: the text of a JSON schema
};

struct ToolSyntax {
  const text::Tokenizer& tokenizer;
  const std::string& chat_template;
  const std::vector<ToolSchema>& tools;
  bool parallel = true;  // more than one call
  // kMay: a text that begins with <think> is a thought up to </think>, in which nothing is constrained.
  // kInside: the prompt has opened one.
  enum class Thought { kNone, kMay, kInside } thought = Thought::kNone;
};

// A JSON schema (an object) with how llguidance shall follow it: white space between values is bounded, since
// a model must not go on with it for ever. lenient: what it does not know of a schema is passed over.
Json guided_schema(Json schema, bool lenient);

// A regular expression of the text itself, also between slashes.
std::string regex_text(const std::string& text);

// The pieces of such grammars, in Lark's syntax as llguidance reads it. A mark that the tokenizer has as a
// special token is that token, since no text can write it; any other is text, however it is cut into tokens.
bool is_special_mark(const text::Tokenizer& tokenizer, const std::string& mark);
std::string lark_mark(const text::Tokenizer& tokenizer, const std::string& mark);
// The rule `start`: `answer`, after a thought where there may be one.
std::string start_rule(const ToolSyntax& syntax, const std::string& answer);
// The terminal `name`: text that is a thought is not of it.
std::string text_terminal(const ToolSyntax& syntax, const std::string& name, const std::string& expression);
// TEXT, any text, and the rule `lead`: any text up to the mark and with it.
std::string text_rules(const ToolSyntax& syntax, const std::string& mark);
// The rules `arguments_0`…, one a tool.
std::string argument_rules(const std::vector<ToolSchema>& tools);
// The rule `call`, {"name": a tool's, <key>: its arguments}, and argument_rules(). more: a regular expression
// of what may stand before the brace that closes it.
std::string call_rules(const std::vector<ToolSchema>& tools, const std::string& key,
                       const std::string& more = {});

inline constexpr const char* kLarkSpace = "[ \\t\\r\\n]{0,8}";

}  // namespace flagscale::serve
