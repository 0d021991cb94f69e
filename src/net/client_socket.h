#pragma once
// A blocking stream socket with deadlines, plain or TLS.

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "net/client.h"

namespace flagscale::net {

class ClientSocket {
 public:
  // Error{kResource}: "cannot reach host:port: …".
  ClientSocket(const Url& server, const ClientOptions& options);
  ~ClientSocket();

  void write(std::string_view data);
  size_t read(char* data, size_t size);  // 0: the server has closed

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace flagscale::net
