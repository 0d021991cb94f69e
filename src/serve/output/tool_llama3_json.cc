// LLaMA 3.1 and 3.2: the whole answer is  {"name": …, "parameters": {…}}, several parted by ";", perhaps
// after <|python_tag|>.

#include <utility>

#include "serve/output/call_parts.h"

namespace flagscale::serve {
namespace {

constexpr std::string_view kPythonTag = "<|python_tag|>";

class LlamaParser final : public OutputParser {
 public:
  explicit LlamaParser(NewCallId new_id) : call_(std::move(new_id)) {}

  void put(std::string_view text, Delta& out) override {
    for (; !text.empty(); text.remove_prefix(1)) {
      const char c = text[0];
      if (at_ == At::kText) {
        out.content += text;
        return;
      }
      if (at_ == At::kCall)
        read(c, out);
      else
        between(c, out);
    }
  }
  void finish(Delta& out) override {
    if (at_ == At::kBetween && !calls_) out.content += held_;
    if (at_ == At::kCall) call_.finish(out);
  }

 private:
  enum class At { kBetween, kCall, kText };

  void between(char c, Delta& out) {
    held_ += c;
    const size_t first = held_.find_first_not_of(calls_ ? " \t\r\n;" : " \t\r\n");
    if (first == std::string::npos) return;
    std::string_view mark = std::string_view(held_).substr(first);
    if (mark.starts_with(kPythonTag)) mark.remove_prefix(kPythonTag.size());
    if (mark.empty() || kPythonTag.starts_with(mark)) return;
    const size_t brace = mark.find_first_not_of(" \t\r\n");
    if (brace == std::string_view::npos) return;
    if (mark[brace] != '{') {
      out.content += held_;
      at_ = At::kText;
      return;
    }
    held_.pop_back();
    call_.start(std::exchange(held_, {}));
    at_ = At::kCall;
    read(c, out);
  }
  void read(char c, Delta& out) {
    const auto result = call_.put(c, out);
    if (result == CallReader::Result::kGoesOn) return;
    calls_ = calls_ || result == CallReader::Result::kDone;
    at_ = result == CallReader::Result::kDone ? At::kBetween : At::kText;
    if (at_ == At::kText) out.content += call_.text();
  }

  At at_ = At::kBetween;
  bool calls_ = false;
  std::string held_;
  CallReader call_;
};

// An answer that begins as a call is one.
std::string llama_grammar(const ToolSyntax& syntax) {
  const std::string tag(kPythonTag);
  const std::string tagged =
      is_special_mark(syntax.tokenizer, tag) ? lark_mark(syntax.tokenizer, tag) + "? " : std::string();
  return start_rule(syntax, "FREE? | " + tagged + "call" + (syntax.parallel ? " (NEXT call)*" : "")) +
         "NEXT: /[ \\t\\r\\n]{0,8};/\n" +
         text_terminal(syntax, "FREE", "/(.|\\n)+/ & ~/[ \\t\\r\\n]*\\{[ \\t\\r\\n]*\"name\"(.|\\n)*/") +
         call_rules(syntax.tools, "parameters");
}

const Registration<ToolFormat> kLlama{"llama3_json",
                                      {.make = [](NewCallId id) -> std::unique_ptr<OutputParser> {
                                         return std::make_unique<LlamaParser>(std::move(id));
                                       },
                                       .mark = "<|python_tag|>",
                                       .special = true,
                                       .grammar = &llama_grammar}};

}  // namespace
}  // namespace flagscale::serve
