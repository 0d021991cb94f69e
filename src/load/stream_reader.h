#pragma once
// The events of a streamed completion, as they come.

#include <memory>
#include <string>
#include <string_view>

#include "load/driver.h"

namespace flagscale::load {

class StreamReader {
 public:
  StreamReader();
  ~StreamReader();
  // now: seconds since the request was sent. What is no event is kept: it may say what went wrong.
  void put(std::string_view piece, double now, Record& record);
  std::string rest() const { return rest_ + line_; }
  bool started() const { return started_; }
  bool ended() const { return ended_; }  // by a finish_reason or [DONE]: else it broke off
  void reset();

 private:
  void event(std::string_view data, double now, Record& record);
  struct Parser;
  std::unique_ptr<Parser> parser_;
  std::string line_, rest_;
  double last_ = 0;
  bool started_ = false, ended_ = false;
};

// What a refusal's body says, {"error": {"message"}}, or "".
std::string error_message(const std::string& body);

}  // namespace flagscale::load
