// Mistral: [TOOL_CALLS] [{"name": …, "arguments": {…}}, …]; newer models [TOOL_CALLS]name[ARGS]{…} or
// [TOOL_CALLS]name{…}. The list alone is what tool_choice "required" makes any model write.

#include <nlohmann/json.hpp>

#include "serve/json.h"
#include "serve/output/call_parts.h"
#include "serve/output/tag_scanner.h"

namespace flagscale::serve {
namespace {

constexpr const char* kMistralTag = "[TOOL_CALLS]";

class MistralParser final : public OutputParser {
 public:
  MistralParser(NewCallId new_id, bool inside)
      : call_(std::move(new_id)), at_(inside ? At::kTag : At::kText), tagged_(!inside) {}

  void put(std::string_view text, Delta& out) override {
    while (!text.empty()) {
      if (at_ == At::kText) {
        std::string before;
        const bool found = tag_.put(text, before) >= 0;
        gate_.put(before, out.content);
        if (found) at_ = At::kTag, held_ = kMistralTag;
        continue;
      }
      const char c = text[0];
      text.remove_prefix(1);
      if (at_ == At::kCall)
        read(c, out);
      else if (at_ == At::kList)
        in_list(c, out);
      else
        after_tag(c, out);
    }
  }
  void finish(Delta& out) override {
    if (!tagged_ && (at_ == At::kList || at_ == At::kCall)) return;  // cut short: half a call is no content
    if (at_ == At::kText) gate_.put(tag_.rest(), out.content);
    if (at_ == At::kTag || (at_ == At::kList && !any_)) gate_.put(held_, out.content);
    if (at_ == At::kCall && !call_.shown()) gate_.put(call_.text(), out.content);
    gate_.finish(out.content);
  }

 private:
  enum class At { kText, kTag, kList, kCall };

  void after_tag(char c, Delta& out) {
    held_ += c;
    const std::string_view body =
        std::string_view(held_).substr(tagged_ ? std::string_view(kMistralTag).size() : 0);
    const size_t first = body.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return;
    if (body[first] == '[') {
      at_ = At::kList;
      return;
    }
    if (c != '{') return;
    if (!tagged_ || body.size() == first + 1) return open(c, false, out);
    std::string name(body.substr(first, body.size() - first - 1));
    name = name.substr(0, name.find('['));  // [ARGS], [CALL_ID]…
    open(c, true, out, name);
  }
  void in_list(char c, Delta& out) {
    held_ += c;
    if (c == '{') return open(c, false, out);
    if (c == ']') return close();
    if (c == ',' || std::string_view(" \t\r\n").find(c) != std::string_view::npos) return;
    if (!any_) gate_.put(held_, out.content);
    at_ = At::kText;
  }
  void open(char c, bool named, Delta& out, const std::string& name = {}) {
    listed_ = at_ == At::kList;
    named_ = named;
    held_.pop_back();
    call_.start(std::exchange(held_, {}));
    if (named)
      call_.feed(
          "{\"name\":" + nlohmann::json(name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
          ",\"arguments\":");
    at_ = At::kCall;
    read(c, out);
  }
  void read(char c, Delta& out) {
    auto result = call_.put(c, out);
    if (named_ && call_.arguments_done()) {
      result = call_.put('}', out);  // the object that open() began
      named_ = false;
    }
    if (result == CallReader::Result::kGoesOn) return;
    if (result == CallReader::Result::kFailed) {
      gate_.put(call_.text(), out.content);
      at_ = At::kText;
      return;
    }
    any_ = true;
    if (listed_)
      at_ = At::kList;
    else
      close();
  }
  void close() {
    gate_.call();
    at_ = At::kText;
    held_.clear();
  }

  CallReader call_;
  At at_;
  const bool tagged_;
  bool listed_ = false, named_ = false, any_ = false;
  std::string held_;
  TagScanner tag_{{kMistralTag}};
  ContentGate gate_;
};

// [TOOL_CALLS]name[ARGS]{…}, again for each call.
std::string named_grammar(const ToolSyntax& syntax) {
  std::string named;
  for (size_t i = 0; i < syntax.tools.size(); ++i)
    named +=
        (i == 0 ? "" : " | ") + json_string(syntax.tools[i].name) + " between arguments_" + std::to_string(i);
  const bool has_id = syntax.chat_template.find("[CALL_ID]") != std::string::npos;
  const std::string id = has_id ? "(" + lark_mark(syntax.tokenizer, "[CALL_ID]") + " ID)? " : "";
  const std::string again = " (" + lark_mark(syntax.tokenizer, kMistralTag) + " named)*";
  return start_rule(syntax, "TEXT? | lead named" + (syntax.parallel ? again : "")) + "named: " + named +
         "\nbetween: " + id + lark_mark(syntax.tokenizer, "[ARGS]") + "\nID: /[A-Za-z0-9]{9}/\n" +
         text_rules(syntax, kMistralTag) + argument_rules(syntax.tools);
}

std::string mistral_grammar(const ToolSyntax& syntax) {
  if (syntax.chat_template.find("[ARGS]") != std::string::npos) return named_grammar(syntax);
  const std::string s = kLarkSpace;
  return start_rule(syntax, std::string("TEXT? | lead BEGIN call") +
                                (syntax.parallel ? " (NEXT call)*" : "") + " END") +
         "BEGIN: /" + s + "\\[/\nNEXT: /" + s + ",/\nEND: /" + s + "\\]/\n" +
         text_rules(syntax, kMistralTag) +
         call_rules(syntax.tools, "arguments",
                    "(," + s + "\"id\"" + s + ":" + s + "\"[A-Za-z0-9]{9}\"" + s + ")?");
}

const Registration<ToolFormat> kMistral{"mistral",
                                        {.make = [](NewCallId id) -> std::unique_ptr<OutputParser> {
                                           return std::make_unique<MistralParser>(std::move(id), false);
                                         },
                                         .mark = kMistralTag,
                                         .special = true,
                                         .id_length = 9,
                                         .grammar = &mistral_grammar}};

}  // namespace

std::unique_ptr<OutputParser> array_parser(NewCallId new_id) {
  return std::make_unique<MistralParser>(std::move(new_id), true);
}

}  // namespace flagscale::serve
