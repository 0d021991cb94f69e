#pragma once
// The bytes of an HTTP response, its body handed on as it comes.

#include <functional>
#include <memory>
#include <string_view>

#include "net/http.h"

namespace flagscale::net {

class ResponseParser {
 public:
  explicit ResponseParser(bool without_body);  // the answer to HEAD
  ~ResponseParser();
  // Returns how many bytes were taken. Error{kCorrupt} for what is not HTTP.
  size_t put(std::string_view data, const std::function<void(std::string_view)>& body);
  void end_of_input();  // the server has closed. Error{kCorrupt} if the response is not complete.
  bool head_done() const;
  bool done() const;
  bool keep_alive() const;
  Response head() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace flagscale::net
