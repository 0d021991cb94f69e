#pragma once
// What of Boost.Asio the server needs: loops, listening, transports.

#include <memory>
#include <string>
#include <vector>

#include "net/client.h"
#include "net/server.h"
#include "net/transport.h"

namespace flagscale::net {

// TLS's certificate and key; null without a certificate. Error{kNotFound}, Error{kInvalidArgument} naming the
// file.
struct Tls;
std::shared_ptr<Tls> load_tls(const ServerOptions& options);

// One thread; it starts with run() and ends with the object.
class AsioLoop : public Loop {
 public:
  static std::unique_ptr<AsioLoop> make();
  virtual void run() = 0;
  virtual void every(std::chrono::milliseconds period, std::function<void()> work) = 0;  // before run()
  virtual void stop() = 0;                                                               // joins
};

// Sockets that listen on every address of host:port. accepted() runs on the first loop, and gets a transport
// on the loop that next() names.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual int port() const = 0;
  virtual void close() = 0;  // on the first loop's thread
};
std::unique_ptr<Listener> listen(AsioLoop& loop, const ServerOptions& options, std::shared_ptr<Tls> tls,
                                 std::function<AsioLoop&()> next,
                                 std::function<void(AsioLoop&, std::unique_ptr<Transport>)> accepted);

// Where connections go to: the addresses and, for TLS, what to trust. Error{kResource} when the name is
// unknown, Error{kNotFound} for certificates that cannot be read.
struct Target;
std::shared_ptr<Target> resolve(const Url& server, const ClientOptions& options);

// One more connection to it, ready to write. done runs on the loop's thread: with a transport, or with what
// went wrong.
void connect(AsioLoop& loop, std::shared_ptr<Target> target,
             std::function<void(std::unique_ptr<Transport>, std::string error)> done);

}  // namespace flagscale::net
