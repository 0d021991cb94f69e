#pragma once
// One JSON object that names a function and its arguments, character by character:
//   {"name": "get_weather", "arguments": {"city": "Paris"}}     ("parameters" is read as "arguments")

#include <string>
#include <string_view>

namespace flagscale::serve {

class CallScanner {
 public:
  enum class State { kOpen, kDone, kFailed };

  // Takes the next character. What it makes certain of the arguments' text is appended to `arguments`,
  // nothing before the name is known. The text of the arguments is the model's own.
  void put(char c, std::string& arguments);

  State state() const { return state_; }
  bool started() const { return started_; }      // name and the arguments' first character were seen
  bool arguments_done() const { return done_; }  // their value is complete
  const std::string& name() const { return name_; }

 private:
  enum class At { kObject, kKey, kInKey, kColon, kValue, kInValue, kAfterValue };
  void structure(char c);
  void begin_value(char c, std::string& arguments);
  void value(char c, std::string& arguments);
  void end_value(std::string& arguments);
  void emit(std::string_view text, std::string& arguments);
  bool is_arguments() const { return key_ == "arguments" || key_ == "parameters"; }

  State state_ = State::kOpen;
  At at_ = At::kObject;
  std::string key_, name_, value_,
      waiting_;  // value_: of a string that is wanted whole; waiting_: arguments before the name
  bool named_ = false, started_ = false, done_ = false;
  bool in_string_ = false, escaped_ = false, plain_ = false, quoted_ = false;
  int depth_ = 0;
};

}  // namespace flagscale::serve
