#pragma once
// One rank's agent as its launcher sees it: orders out, reports and output in.

#include <chrono>
#include <optional>
#include <string>

#include "launch/agent/frames.h"
#include "launch/agent/link.h"
#include "launch/agent/messages.h"

namespace flagscale::launch {

class RankLink {
 public:
  using Clock = std::chrono::steady_clock;

  explicit RankLink(AgentLink link);
  ~RankLink();  // the agent then ends its tree, and itself
  RankLink(const RankLink&) = delete;
  RankLink& operator=(const RankLink&) = delete;

  void order(const Order& order);
  // Whatever has come: false once the connection is closed or carries nonsense (why() says which).
  bool receive();
  bool next(Frame& frame);
  bool flush() { return writer_.flush(); }

  int pid() const { return link_.pid; }
  int readable() const { return link_.from; }
  int writable() const { return writer_.waits() ? link_.to : -1; }
  Clock::time_point heard() const { return heard_; }
  void pass_over(Clock::duration time) { heard_ += time; }
  std::string why() const;  // what came instead of an agent's words, on one line

 private:
  AgentLink link_;
  FrameReader reader_;
  FrameWriter writer_;
  Clock::time_point heard_ = Clock::now();
};

}  // namespace flagscale::launch
