#pragma once
// Whether a rank still gets on: by its heartbeats, each phase with a limit of its own, or, where it gives
// none, by its output.

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace flagscale::launch {

// The longest time, in seconds, without a sign of life; 0: no limit.
struct PhaseLimits {
  double start = 600;  // until the first heartbeat of what follows: reading, planning, indexing data
  double load = 1800;
  double first_step = 1800;
  double step = -1;  // -1: ten times the longest step so far, at least a minute
  double evaluation = 1800;
  double save = 1800;
  double output = 1800;  // of a command without heartbeats (FlagScale's hang_detection_timeout)
};

class Watch {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Watch(const PhaseLimits& limits) : limits_(limits) {}

  void start(Clock::time_point now);
  void beat(const std::string& source, const std::string& phase, int64_t iteration, Clock::time_point now);
  void output(Clock::time_point now) { output_ = now; }
  // Time that does not count: this process did not run either.
  void pass_over(Clock::duration time);

  struct Silence {
    std::string phase;  // "output" where there are no heartbeats
    int64_t iteration = 0;
    double seconds = 0, limit = 0;
  };
  std::optional<Silence> silent(Clock::time_point now) const;  // of the source that is silent longest

 private:
  struct Source {
    std::string phase;
    int64_t iteration = 0;
    Clock::time_point last;
    Clock::duration longest_step{};
  };
  double limit_of(const Source& source) const;

  PhaseLimits limits_;
  std::map<std::string, Source> sources_;
  Clock::time_point output_;
};

std::string describe(const Watch::Silence& silence);  // "no heartbeat for 61 s in phase step, …"

}  // namespace flagscale::launch
