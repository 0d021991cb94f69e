#pragma once
// An HTTP/1.1 server: a few threads, each with its own connections. Keep-alive, pipelining, chunked bodies
// both ways, TLS, limits on everything a peer sends and on the time it takes.

#include <chrono>
#include <memory>
#include <string>

#include "net/exchange.h"

namespace flagscale::net {

struct ServerOptions {
  std::string host = "127.0.0.1";  // an address or a name; every address it has is listened on
  int port = 0;                    // 0: any free one
  int threads = 1;
  size_t max_header = 32 << 10;       // bytes of the request line and headers: else 431
  size_t max_body = size_t{8} << 20;  // else 413
  size_t max_unsent =
      size_t{8} << 20;         // bytes of an answer that wait for a slow peer; more ends the connection
  int max_connections = 4096;  // else 503 at once
  std::chrono::milliseconds header_time{10'000};  // from a request's first byte to its headers' end: else 408
  std::chrono::milliseconds body_time{30'000};    // from there to the body's end: else 408
  std::chrono::milliseconds idle_time{75'000};    // between requests
  std::chrono::milliseconds write_time{30'000};   // without the peer taking a byte of an answer
  std::string certificate, key, key_password;     // PEM files: TLS; empty: none
  // The answer to what never reaches the handler: a malformed or too large request, too many connections.
  std::function<Response(int status, const std::string& message)> error_page;
};

class Server {
 public:
  // Listens from here on. Error{kResource} when the address is taken or not ours; Error for a bad certificate
  // or key.
  Server(ServerOptions options, Handler handler);
  ~Server();  // ends every connection and joins

  int port() const;
  int connections() const;

  // Takes no new connections and no further requests on those there are: idle ones close, others when their
  // answer is complete. Returns at once; connections() tells when all have gone.
  void stop_accepting();

  // Ends every connection and calls the handler no more; returns when that is so. Exchanges may still be
  // answered, to nobody, for as long as the server lives.
  void close();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace flagscale::net
