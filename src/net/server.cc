#include "net/server.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <map>
#include <vector>

#include "net/asio_transport.h"
#include "net/connection.h"

namespace flagscale::net {

namespace {

constexpr std::chrono::milliseconds kSweep{250};

// A connection is a descriptor; the limit a shell gives is often 1024.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

struct Server::State {
  struct Worker {
    std::unique_ptr<AsioLoop> loop;
    std::map<Connection*, std::shared_ptr<Connection>> connections;  // its thread's
  };

  State(ServerOptions o, Handler h) : options(std::move(o)), handler(std::move(h)) {
    raise_descriptor_limit();
    const auto tls = load_tls(options);
    for (int i = 0; i < std::max(options.threads, 1); ++i) workers.push_back({AsioLoop::make(), {}});
    listener = listen(
        *workers[0].loop, options, tls,
        [this]() -> AsioLoop& { return *workers[next++ % workers.size()].loop; },
        [this](AsioLoop& loop, std::unique_ptr<Transport> transport) {
          accepted(loop, std::move(transport));
        });
    port = listener->port();
    for (Worker& worker : workers) worker.loop->every(kSweep, [this, &worker] { sweep(worker); });
    for (Worker& worker : workers) worker.loop->run();
  }
  ~State() {
    // Nothing runs any more when connections, and with them their sockets, go; the loops go last.
    for (Worker& worker : workers) worker.loop->stop();
    listener.reset();
    for (Worker& worker : workers) each(worker, [](Connection& connection) { connection.close(); });
  }

  void accepted(AsioLoop& loop, std::unique_ptr<Transport> transport) {
    for (Worker& worker : workers)
      if (worker.loop.get() == &loop) {
        const bool full = ++open > options.max_connections;
        // Made here, so that nothing is left in the loop's queue but a shared pointer.
        const auto connection = std::make_shared<Connection>(loop, std::move(transport), options, handler,
                                                             [this, &worker](Connection* gone) {
                                                               --open;
                                                               worker.connections.erase(gone);
                                                             });
        loop.post([this, &worker, connection, full] {
          worker.connections.emplace(connection.get(), connection);
          if (closed) return connection->close();
          full ? connection->refuse(503, "too many connections") : connection->start();
        });
      }
  }

  template <class Call>
  static void each(Worker& worker, Call&& call) {  // calls may end connections
    std::vector<std::shared_ptr<Connection>> all;
    all.reserve(worker.connections.size());
    for (const auto& [key, connection] : worker.connections) all.push_back(connection);
    for (const auto& connection : all) call(*connection);
  }
  void sweep(Worker& worker) {
    const auto now = Connection::Clock::now();
    each(worker, [now](Connection& connection) { connection.sweep(now); });
  }

  const ServerOptions options;
  const Handler handler;
  std::vector<Worker> workers;
  std::unique_ptr<Listener> listener;
  size_t next = 0;
  int port = 0;
  std::atomic<int> open = 0;
  std::atomic<bool> closed = false;
};

Server::Server(ServerOptions options, Handler handler)
    : state_(std::make_unique<State>(std::move(options), std::move(handler))) {}
Server::~Server() = default;

int Server::port() const { return state_->port; }
int Server::connections() const { return state_->open; }

void Server::stop_accepting() {
  State& state = *state_;
  state.workers[0].loop->post([&state] {
    state.listener->close();
    for (State::Worker& worker : state.workers)
      worker.loop->post(
          [&worker] { State::each(worker, [](Connection& connection) { connection.stop_accepting(); }); });
  });
}

void Server::close() {
  State& state = *state_;
  state.closed = true;
  std::latch done(static_cast<std::ptrdiff_t>(state.workers.size()));
  state.workers[0].loop->post([&state] { state.listener->close(); });
  for (State::Worker& worker : state.workers)
    worker.loop->post([&worker, &done] {
      State::each(worker, [](Connection& connection) { connection.close(); });
      done.count_down();
    });
  done.wait();
}

}  // namespace flagscale::net
