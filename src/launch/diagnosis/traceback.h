#pragma once
// A Python traceback, line by line: its frames quote source code, so that only its last line says what
// happened.

#include <string>
#include <string_view>

namespace flagscale::launch {

class Traceback {
 public:
  enum class Line {
    kOutside,    // belongs to no traceback
    kStarts,     // "Traceback (most recent call last):"
    kFrame,      // within one
    kException,  // ends one: exception() is what it says
  };
  Line read(std::string_view line);
  bool open() const { return open_; }
  void close() { open_ = false; }
  std::string_view exception() const { return exception_; }

 private:
  std::string_view without_prefix(std::string_view line) const;

  bool open_ = false;
  int lines_ = 0;
  std::string prefix_;  // before "Traceback": a logger's words or an indent, which every line repeats
  std::string exception_;
};

}  // namespace flagscale::launch
