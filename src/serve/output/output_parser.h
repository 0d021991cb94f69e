#pragma once
// A model's text to a message: reasoning, content and tool calls, as they come. Whatever the pieces in which
// the text arrives, the deltas join to the same message.

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/registry.h"
#include "serve/output/delta.h"
#include "serve/output/tool_grammar.h"

namespace flagscale::serve {

class OutputParser {
 public:
  virtual ~OutputParser() = default;
  virtual void put(std::string_view text, Delta& out) = 0;
  virtual void finish(Delta& out) = 0;  // the text has ended: what was held back
};

using NewCallId = std::function<std::string()>;

// A way in which models write tool calls: one file tool_<name>.cc each, that registers itself.
struct ToolFormat {
  std::unique_ptr<OutputParser> (*make)(NewCallId new_id);
  const char* mark;       // a template with this text is for a model of this format
  bool special = false;   // the marks are special tokens: they must be in the text
  size_t id_length = 24;  // of a call's id
  std::string (*grammar)(const ToolSyntax& syntax) = nullptr;  // Lark: free text, and calls as they must be
};

std::unique_ptr<OutputParser> plain_parser();  // all is content
std::unique_ptr<OutputParser> named_parser(std::string function,
                                           NewCallId new_id);  // all is that function's arguments
std::unique_ptr<OutputParser> array_parser(NewCallId new_id);  // a JSON list of calls

// <think>…</think>, then what `rest` reads. inside: the text begins inside (the prompt ended with <think>).
std::unique_ptr<OutputParser> reasoning_parser(std::unique_ptr<OutputParser> rest, bool inside);

// Drops the calls after the first.
std::unique_ptr<OutputParser> first_call_only(std::unique_ptr<OutputParser> rest);

}  // namespace flagscale::serve
