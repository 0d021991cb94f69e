#pragma once
// A small blocking HTTP/1.1 client, plain or TLS, that keeps its connection. For one thread at a time.

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "net/http.h"

namespace flagscale::net {

struct Url {
  bool tls = false;
  std::string host;
  int port = 80;
  std::string path = "/";  // with the query
};
// "http://host:port/path", "https://…"; "host:port" is http. Error{kInvalidArgument}.
Url parse_url(const std::string& text);

struct ClientOptions {
  std::chrono::milliseconds connect_time{10'000};
  std::chrono::milliseconds silence{300'000};  // without a byte from the server
  std::string ca_file;                         // certificates to trust instead of the system's
  // Asked ten times a second while the server is silent; false breaks off with Error{kInterrupted}.
  std::function<bool()> idle = {};
};

class Client {
 public:
  explicit Client(Url server, ClientOptions options = {});
  ~Client();
  Client(Client&&) noexcept;

  // Errors: kResource, naming the server, when it cannot be reached, breaks off or stays silent.
  Response send(const std::string& method, const std::string& path, std::string body = {},
                Headers headers = {});

  // The same with the body in pieces as they come; `piece` returns false to break off, which closes the
  // connection. The response's own body is empty. head, if given, sees status and headers before the first
  // piece.
  Response stream(const std::string& method, const std::string& path, std::string body, Headers headers,
                  const std::function<bool(std::string_view)>& piece,
                  const std::function<void(const Response&)>& head = {});

  void close();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Server-sent events: the data of each event, joined across pieces.
class EventStream {
 public:
  void put(std::string_view piece, const std::function<void(const std::string& data)>& event);

 private:
  std::string line_, data_;
};

}  // namespace flagscale::net
