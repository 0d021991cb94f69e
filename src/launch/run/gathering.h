#pragma once
// Which hosts of an elastic job are there before it starts: an agent on each says so. Those that do not come
// are tried again until the time is over.

#include <poll.h>
#include <sys/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "launch/run/rank_link.h"
#include "launch/run/run_job.h"

namespace flagscale::launch {

class Gathering {
 public:
  using Clock = std::chrono::steady_clock;

  // Both outlive it; options.elastic is there.
  Gathering(const RunOptions& options, const OpenLink& open_link);
  ~Gathering();  // its agents end
  Gathering(const Gathering&) = delete;
  Gathering& operator=(const Gathering&) = delete;

  void add_files(std::vector<pollfd>& files) const;  // to wait for
  void turn();                                       // hears who is there, tries again where nobody was
  // As many as can be used are there (those that come first in the list have a moment to answer), or the time
  // is up.
  bool over() const;
  std::vector<Host> there() const;  // the first of the list, as many as can be used
  std::string missing() const;      // "b (why), c (why)" of the others; "" without any

 private:
  struct Candidate {
    NodeTask task;
    std::unique_ptr<RankLink> link;
    pid_t way = 0;  // the child that is the link
    bool ready = false, failed = false;
    Clock::time_point again;
    std::string why = "it has not answered";
  };
  void open(Candidate& candidate) const;
  void receive(Candidate& candidate) const;
  void drop(Candidate& candidate, const std::string& why) const;

  const RunOptions& options_;
  const OpenLink& open_link_;
  std::vector<Candidate> candidates_;
  Clock::time_point begun_ = Clock::now();
};

}  // namespace flagscale::launch
