#include "serve/output/output_parser.h"

#include <utility>

#include "serve/output/tag_scanner.h"

namespace flagscale::serve {
namespace {

class PlainParser final : public OutputParser {
 public:
  void put(std::string_view text, Delta& out) override { out.content += text; }
  void finish(Delta&) override {}
};

class NamedParser final : public OutputParser {
 public:
  NamedParser(std::string function, NewCallId new_id)
      : function_(std::move(function)), new_id_(std::move(new_id)) {}
  void put(std::string_view text, Delta& out) override {
    Delta more;
    more.calls.push_back({0, {}, {}, std::string(text)});
    if (!std::exchange(begun_, true)) more.calls[0].id = new_id_(), more.calls[0].name = function_;
    append(out, std::move(more));
  }
  void finish(Delta&) override {}

 private:
  std::string function_;
  NewCallId new_id_;
  bool begun_ = false;
};

class ReasoningParser final : public OutputParser {
 public:
  ReasoningParser(std::unique_ptr<OutputParser> rest, bool inside)
      : rest_(std::move(rest)), inside_(inside) {}

  void put(std::string_view text, Delta& out) override {
    if (at_ == At::kStart) {
      start_ += text;
      const size_t first = start_.find_first_not_of(" \t\r\n");
      const std::string_view begun =
          first == std::string::npos ? std::string_view() : std::string_view(start_).substr(first);
      if (kOpen.starts_with(begun) && begun.size() < kOpen.size()) return;  // it may yet be the tag
      const bool tag = begun.starts_with(kOpen);
      at_ = tag || inside_ ? At::kBlank : At::kRest;
      const std::string held = std::exchange(start_, {});
      return put(tag ? std::string_view(held).substr(first + kOpen.size()) : std::string_view(held), out);
    }
    while (!text.empty()) {
      if (at_ == At::kBlank || at_ == At::kBlankRest) {
        const size_t first = text.find_first_not_of("\r\n \t");
        if (first == std::string_view::npos) return;
        text.remove_prefix(first);
        at_ = at_ == At::kBlank ? At::kReasoning : At::kRest;
      } else if (at_ == At::kReasoning) {
        if (close_.put(text, out.reasoning) >= 0) at_ = At::kBlankRest;
      } else {
        return rest_->put(text, out);
      }
    }
  }
  void finish(Delta& out) override {
    if (at_ == At::kStart) (inside_ ? out.reasoning : out.content) += start_;
    if (at_ == At::kReasoning) out.reasoning += close_.rest();
    rest_->finish(out);
  }

 private:
  static constexpr std::string_view kOpen = "<think>";
  enum class At { kStart, kBlank, kReasoning, kBlankRest, kRest };
  std::unique_ptr<OutputParser> rest_;
  bool inside_;
  At at_ = At::kStart;
  std::string start_;
  TagScanner close_{{"</think>"}};
};

class FirstCallOnly final : public OutputParser {
 public:
  explicit FirstCallOnly(std::unique_ptr<OutputParser> rest) : rest_(std::move(rest)) {}
  void put(std::string_view text, Delta& out) override {
    Delta all;
    rest_->put(text, all);
    pass(std::move(all), out);
  }
  void finish(Delta& out) override {
    Delta all;
    rest_->finish(all);
    pass(std::move(all), out);
  }

 private:
  static void pass(Delta all, Delta& out) {
    std::erase_if(all.calls, [](const CallDelta& call) { return call.index > 0; });
    append(out, std::move(all));
  }
  std::unique_ptr<OutputParser> rest_;
};

}  // namespace

std::unique_ptr<OutputParser> plain_parser() { return std::make_unique<PlainParser>(); }
std::unique_ptr<OutputParser> named_parser(std::string function, NewCallId new_id) {
  return std::make_unique<NamedParser>(std::move(function), std::move(new_id));
}
std::unique_ptr<OutputParser> reasoning_parser(std::unique_ptr<OutputParser> rest, bool inside) {
  return std::make_unique<ReasoningParser>(std::move(rest), inside);
}
std::unique_ptr<OutputParser> first_call_only(std::unique_ptr<OutputParser> rest) {
  return std::make_unique<FirstCallOnly>(std::move(rest));
}

}  // namespace flagscale::serve
