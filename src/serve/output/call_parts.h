#pragma once
// What the tool parsers share: text around calls, and a call that is being read.

#include <string>
#include <string_view>

#include "serve/output/call_scanner.h"
#include "serve/output/output_parser.h"

namespace flagscale::serve {

// Content between calls. White space that is all there is beside a call is dropped.
class ContentGate {
 public:
  void put(std::string_view text, std::string& content);
  void call();                        // a call begins here
  void finish(std::string& content);  // the text ends here

 private:
  std::string blank_;
  bool shown_ = false, calls_ = false;
};

// Reads one call; it becomes visible with its arguments' first character.
class CallReader {
 public:
  explicit CallReader(NewCallId new_id) : new_id_(std::move(new_id)) {}

  enum class Result { kGoesOn, kDone, kFailed };  // kFailed: this was no call; text() is what was read
  void start(std::string opening);                // the characters that led here
  void feed(std::string_view text);               // as if it had been read, but not part of text()
  Result put(char c, Delta& out);
  void finish(Delta& out);  // the text ended inside: a call without its end, or content
  const std::string& text() const { return text_; }
  bool arguments_done() const { return scanner_.arguments_done(); }
  bool shown() const { return shown_; }

 private:
  void show(std::string arguments, Delta& out);

  NewCallId new_id_;
  CallScanner scanner_;
  std::string text_;
  int next_ = 0;
  bool shown_ = false;
};

}  // namespace flagscale::serve
