#pragma once
// One peer of a server: reads requests, hands them to the handler one at a time, writes the answers. Lives on
// one loop's thread; only the Exchange it makes may be called from others.

#include <atomic>
#include <chrono>
#include <memory>
#include <vector>

#include "net/exchange.h"
#include "net/request_parser.h"
#include "net/server.h"
#include "net/transport.h"

namespace flagscale::net {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Clock = std::chrono::steady_clock;
  // closed: called once, when it is over.
  Connection(Loop& loop, std::unique_ptr<Transport> transport, const ServerOptions& options,
             const Handler& handler, std::function<void(Connection*)> closed);
  ~Connection();

  void start();
  void refuse(int status, const std::string& message);  // instead of start(): an answer without a request
  void sweep(Clock::time_point now);                    // closes what has run out of time
  void stop_accepting();                                // closes once nothing is under way
  void close();

 private:
  class Answer;
  void read();
  void received(size_t bytes);
  void parse();
  void handle();
  void fail(int status, const std::string& message);
  void send(std::string data);
  void flush();
  void sent(bool ok);
  void answered(bool keep_alive);
  void time_out();

  Loop& loop_;
  std::unique_ptr<Transport> transport_;
  const ServerOptions& options_;
  const Handler& handler_;
  std::function<void(Connection*)> closed_;
  RequestParser parser_;

  enum class Phase {
    kOpening,
    kIdle,
    kHeader,
    kBody,
    kAnswer,
    kLast,
    kClosed
  };  // kLast: closes when all is written
  Phase phase_ = Phase::kOpening;
  Clock::time_point deadline_, write_deadline_;
  std::vector<char> space_;
  std::string input_;               // received, not parsed
  std::string output_, in_flight_;  // to send; being sent
  std::shared_ptr<std::atomic<size_t>> unsent_ = std::make_shared<std::atomic<size_t>>(0);
  bool reading_ = false, writing_ = false, stopping_ = false, continued_ = false;
  std::weak_ptr<Answer> answer_;
};

}  // namespace flagscale::net
