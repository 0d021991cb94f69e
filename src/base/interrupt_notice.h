#pragma once
// What a stop that takes a while is answered with on stderr as soon as it is asked for: a line, while this
// lives. One at a time.

#include <string>

namespace flagscale {

class InterruptNotice {
 public:
  explicit InterruptNotice(const std::string& line);
  ~InterruptNotice();
  InterruptNotice(const InterruptNotice&) = delete;

 private:
  std::string text_;
};

}  // namespace flagscale
