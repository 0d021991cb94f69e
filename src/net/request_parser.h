#pragma once
// The bytes of an HTTP request to a Request, piece by piece.

#include <memory>
#include <string_view>

#include "net/http.h"

namespace flagscale::net {

class RequestParser {
 public:
  RequestParser(size_t max_header, size_t max_body);
  ~RequestParser();

  enum class Progress { kHeader, kBody, kDone, kFailed };
  // Takes bytes from the front of `data`; returns how many. Goes on taking until the request is complete or
  // wrong.
  size_t put(std::string_view data);
  Progress progress() const;
  bool expects_continue() const;  // the peer waits for "100 Continue" before it sends the body

  // kFailed: what to answer.
  int status() const;
  const std::string& message() const;

  Request take();  // kDone; the parser then starts anew

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace flagscale::net
