#pragma once
// Ranks that no longer get on: which one, and a file with every rank's stack.

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launch/record/run_record.h"
#include "launch/run/rank.h"

namespace flagscale::launch {

class HangWatch {
 public:
  using Clock = std::chrono::steady_clock;

  // Reports go into `folder`, hang_<time>.txt each. The record outlives this.
  HangWatch(std::filesystem::path folder, RunRecord& record) : folder_(std::move(folder)), record_(record) {}

  // Looks at ranks that run. Of one that is silent for longer than its phase may be, every rank's agent is
  // asked for its stacks.
  void look(const std::vector<Rank>& ranks, Clock::time_point now);
  bool hung() const { return hung_.has_value(); }

  void stacks(const Rank& rank, const std::string& text);
  // Once all stacks have come, or long enough was waited for them: writes and tells the report, and returns
  // the rank that hangs; nothing where it gets on again by then.
  std::optional<size_t> report(Clock::time_point now);

  void forget() { hung_.reset(), pending_.reset(); }

 private:
  struct Report {
    std::string what, stacks;
    size_t waiting = 0;
    Clock::time_point due;
  };

  std::filesystem::path folder_;
  RunRecord& record_;
  std::optional<size_t> hung_;
  std::optional<Report> pending_;
};

}  // namespace flagscale::launch
