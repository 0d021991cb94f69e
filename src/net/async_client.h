#pragma once
// Many HTTP/1.1 requests at once over kept connections, on one thread of its own: what drives a server hard.

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "net/client.h"

namespace flagscale::net {

class AsyncClient {
 public:
  // The thread starts. Errors: as those of Client, for a name that is unknown.
  explicit AsyncClient(const Url& server, const ClientOptions& options = {});
  ~AsyncClient();  // ends what is under way without a word, and joins

  // Runs `work` on the client's thread.
  void post(std::function<void()> work);

  struct Sinks {
    std::function<void(std::string_view)> piece;  // of the body as it comes
    // The last call. error: what went wrong before the response was complete, "" otherwise.
    std::function<void(const Response& head, const std::string& error)> done;
  };
  // On the client's thread, as the sinks. A request that an idle connection's end swallowed goes out once
  // more.
  void send(std::string message, Sinks sinks);

  // Of a request with this body, for send(): made once for many.
  std::string head(const std::string& method, const std::string& path, const Headers& headers) const;
  static std::string message(const std::string& head, const std::string& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace flagscale::net
