#include "serve/output/call_parts.h"

#include <utility>

namespace flagscale::serve {

void ContentGate::put(std::string_view text, std::string& content) {
  if (shown_) {
    content += text;
    return;
  }
  const size_t first = text.find_first_not_of(" \t\r\n");
  blank_ += text.substr(0, first);
  if (first == std::string_view::npos) return;
  shown_ = true;
  content += std::exchange(blank_, {});
  content += text.substr(first);
}

void ContentGate::call() {
  blank_.clear();
  shown_ = false;
  calls_ = true;
}

void ContentGate::finish(std::string& content) {
  if (!calls_) content += blank_;
  blank_.clear();
}

void CallReader::start(std::string opening) {
  scanner_ = {};
  text_ = std::move(opening);
  shown_ = false;
}

void CallReader::feed(std::string_view text) {
  std::string none;
  for (const char c : text) scanner_.put(c, none);
}

CallReader::Result CallReader::put(char c, Delta& out) {
  text_ += c;
  std::string arguments;
  scanner_.put(c, arguments);
  if (!arguments.empty()) show(std::move(arguments), out);
  if (scanner_.state() == CallScanner::State::kOpen) return Result::kGoesOn;
  const bool done = scanner_.state() == CallScanner::State::kDone;
  if (done && !shown_) show("{}", out);  // a function without arguments
  if (!shown_) return Result::kFailed;
  ++next_;
  return Result::kDone;
}

void CallReader::finish(Delta& out) {
  if (!shown_) out.content += text_;
}

void CallReader::show(std::string arguments, Delta& out) {
  CallDelta call{next_, {}, {}, std::move(arguments)};
  if (!shown_) {
    call.id = new_id_();
    call.name = scanner_.name();
    shown_ = true;
  }
  Delta more;
  more.calls.push_back(std::move(call));
  append(out, std::move(more));
}

}  // namespace flagscale::serve
