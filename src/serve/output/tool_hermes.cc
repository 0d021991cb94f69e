// Hermes 2, Qwen 2.5 and Qwen 3:  <tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>

#include "serve/output/call_parts.h"
#include "serve/output/tag_scanner.h"

namespace flagscale::serve {
namespace {

class HermesParser final : public OutputParser {
 public:
  explicit HermesParser(NewCallId new_id) : call_(std::move(new_id)) {}

  void put(std::string_view text, Delta& out) override {
    while (!text.empty()) {
      if (at_ == At::kCall) {
        const auto result = call_.put(text[0], out);
        text.remove_prefix(1);
        if (result == CallReader::Result::kDone) at_ = At::kClose;
        if (result == CallReader::Result::kFailed) leave(out);
        continue;
      }
      std::string before;
      const bool found = (at_ == At::kText ? open_ : close_).put(text, before) >= 0;
      if (at_ == At::kText) gate_.put(before, out.content);
      if (!found) continue;
      if (at_ == At::kText)
        call_.start("<tool_call>");
      else
        gate_.call();
      at_ = at_ == At::kText ? At::kCall : At::kText;
    }
  }
  void finish(Delta& out) override {
    if (at_ == At::kText) gate_.put(open_.rest(), out.content);
    if (at_ == At::kCall) {
      if (call_.shown()) return;
      gate_.put(call_.text(), out.content);
    }
    gate_.finish(out.content);
  }

 private:
  enum class At { kText, kCall, kClose };
  void leave(Delta& out) {  // what looked like a call is content
    gate_.put(call_.text(), out.content);
    at_ = At::kText;
  }

  At at_ = At::kText;
  TagScanner open_{{"<tool_call>"}}, close_{{"</tool_call>"}};
  ContentGate gate_;
  CallReader call_;
};

std::string hermes_grammar(const ToolSyntax& syntax) {
  const std::string close = lark_mark(syntax.tokenizer, "</tool_call>");
  return start_rule(syntax, syntax.parallel ? "one* TEXT?" : "one | TEXT?") + "one: lead call SPACE? " +
         close + "\nSPACE: /[ \\t\\r\\n]{1,8}/\n" + text_rules(syntax, "<tool_call>") +
         call_rules(syntax.tools, "arguments");
}

const Registration<ToolFormat> kHermes{"hermes",
                                       {.make = [](NewCallId id) -> std::unique_ptr<OutputParser> {
                                          return std::make_unique<HermesParser>(std::move(id));
                                        },
                                        .mark = "<tool_call>",
                                        .grammar = &hermes_grammar}};

}  // namespace
}  // namespace flagscale::serve
