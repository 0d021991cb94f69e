#include "serve/output/call_scanner.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace flagscale::serve {

namespace {

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// The string that a JSON literal with its quotes means; false when it is none.
bool unquote(const std::string& literal, std::string& text) {
  const auto json = nlohmann::json::parse(literal, nullptr, false);
  if (!json.is_string()) return false;
  text = json.get<std::string>();
  return true;
}

}  // namespace

void CallScanner::put(char c, std::string& arguments) {
  if (state_ != State::kOpen) return;
  switch (at_) {
    case At::kValue:
      if (!is_space(c)) begin_value(c, arguments);
      return;
    case At::kInValue:
      return value(c, arguments);
    case At::kInKey:
      value_ += c;
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        at_ = At::kColon;
        if (!unquote(value_, key_)) state_ = State::kFailed;
      }
      return;
    default:
      structure(c);
  }
}

void CallScanner::structure(char c) {
  if (is_space(c)) return;
  if ((at_ == At::kObject && c == '{') || (at_ == At::kAfterValue && c == ',')) {
    at_ = At::kKey;
  } else if (at_ == At::kKey && c == '"') {
    at_ = At::kInKey;
    value_.assign(1, '"');
  } else if (at_ == At::kColon && c == ':') {
    at_ = At::kValue;
  } else if (c == '}' && at_ == At::kAfterValue) {
    state_ = named_ ? State::kDone : State::kFailed;
  } else {
    state_ = State::kFailed;
  }
}

void CallScanner::begin_value(char c, std::string& arguments) {
  at_ = At::kInValue;
  depth_ = 0, in_string_ = false, escaped_ = false;
  value_.clear();
  plain_ = c != '{' && c != '[' && c != '"';
  quoted_ = c == '"';
  if (key_ == "name" && (!quoted_ || named_)) state_ = State::kFailed;
  if (is_arguments() && (done_ || started_ || !waiting_.empty() || (c != '{' && !quoted_)))
    state_ = State::kFailed;
  if (state_ == State::kOpen) value(c, arguments);
}

void CallScanner::value(char c, std::string& arguments) {
  if (plain_ && (c == ',' || c == '}' || c == ']' || is_space(c))) {  // ends a number, true, false, null
    at_ = At::kAfterValue;
    return structure(c);
  }
  if (is_arguments() && !quoted_)
    emit({&c, 1}, arguments);
  else if (quoted_ && (is_arguments() || key_ == "name"))
    value_ += c;
  if (in_string_) {
    if (escaped_)
      escaped_ = false;
    else if (c == '\\')
      escaped_ = true;
    else if (c == '"')
      in_string_ = false;
  } else if (c == '"') {
    in_string_ = true;
  } else if (c == '{' || c == '[') {
    ++depth_;
  } else if (c == '}' || c == ']') {
    --depth_;
  }
  if (!plain_ && !in_string_ && depth_ == 0) end_value(arguments);
}

void CallScanner::end_value(std::string& arguments) {
  at_ = At::kAfterValue;
  if (key_ == "name") {
    named_ = unquote(value_, name_) && !name_.empty();
    if (!named_) state_ = State::kFailed;
    if (named_ && !waiting_.empty()) emit(std::exchange(waiting_, {}), arguments);
  } else if (is_arguments()) {
    std::string text;
    if (quoted_ && unquote(value_, text))
      emit(text, arguments);  // arguments that were written as a string of JSON
    done_ = true;
  }
}

void CallScanner::emit(std::string_view text, std::string& arguments) {
  if (!named_) {
    waiting_ += text;
    return;
  }
  started_ = true;
  arguments += text;
}

}  // namespace flagscale::serve
