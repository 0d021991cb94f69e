#pragma once
// One request and its answer, from the handler's side.

#include <functional>
#include <memory>
#include <string>

#include "net/http.h"

namespace flagscale::net {

// Any thread may call any method. Either one respond(), or begin(), write()…, end(). An exchange that is
// dropped without an answer is answered with 500. What comes after the peer has gone is dropped in silence.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const Request& request() const = 0;

  virtual void respond(Response response) = 0;

  // A body in pieces, each sent as soon as the peer takes it; the status and headers of `head` go before it.
  virtual void begin(Response head) = 0;
  virtual void write(std::string data) = 0;
  virtual void end() = 0;
  // Bytes of this answer that wait for the peer. Past the server's max_unsent it is disconnected.
  virtual size_t unsent() const = 0;

  // Runs `work` on the connection's own thread, one after another in the order of the calls; it must not
  // block for long.
  virtual void post(std::function<void()> work) = 0;
  // Called once, on the connection's thread, if the peer goes before the answer is complete; at once if it
  // has gone.
  virtual void on_disconnect(std::function<void()> call) = 0;
};

// Called on a connection's thread, which serves others too: what takes long goes to a thread of the handler's
// own.
using Handler = std::function<void(std::shared_ptr<Exchange>)>;

}  // namespace flagscale::net
