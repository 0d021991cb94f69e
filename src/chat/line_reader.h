#pragma once
// What is typed, line by line. At a terminal libedit edits the line and remembers earlier ones; it is loaded
// on use, and without it the terminal's own editing is left.

#include <memory>
#include <string>

namespace flagscale::chat {

struct Line {
  enum class End { kLine, kStopped, kEnd } end = End::kLine;  // kStopped: Ctrl-C
  std::string text;                                           // without its line end
};

class LineReader {
 public:
  virtual ~LineReader() = default;
  virtual Line read(const std::string& prompt) = 0;
  virtual bool waiting() = 0;  // more has come already: what was read is the first line of a paste
  virtual void remember(const std::string&) {}
};

std::unique_ptr<LineReader> plain_reader();     // standard input, no prompt
std::unique_ptr<LineReader> terminal_reader();  // while there is a StopKey

}  // namespace flagscale::chat
