#include "launch/run/watch.h"

#include <fmt/format.h>

#include <algorithm>

namespace flagscale::launch {

namespace {

constexpr double kShortestStepLimit = 60, kStepTimes = 10;

double in_seconds(Watch::Clock::duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

void Watch::start(Clock::time_point now) {
  sources_.clear();
  output_ = now;
}

void Watch::beat(const std::string& source, const std::string& phase, int64_t iteration,
                 Clock::time_point now) {
  const auto [it, fresh] = sources_.try_emplace(source);
  Source& s = it->second;
  // Steps that are shorter than the time between two looks at the heartbeats are seen several at once.
  if (!fresh && s.phase == "step" && phase == "step" && iteration > s.iteration)
    s.longest_step = std::max(s.longest_step, (now - s.last) / (iteration - s.iteration));
  s.phase = phase, s.iteration = iteration, s.last = now;
}

void Watch::pass_over(Clock::duration time) {
  output_ += time;
  for (auto& [name, source] : sources_) source.last += time;
}

double Watch::limit_of(const Source& source) const {
  if (source.phase == "start") return limits_.start;
  if (source.phase == "load") return limits_.load;
  if (source.phase == "first_step") return limits_.first_step;
  if (source.phase == "evaluation") return limits_.evaluation;
  if (source.phase == "save") return limits_.save;
  return limits_.step >= 0 ? limits_.step
                           : std::max(kShortestStepLimit, kStepTimes * in_seconds(source.longest_step));
}

std::optional<Watch::Silence> Watch::silent(Clock::time_point now) const {
  std::optional<Silence> longest;
  const auto consider = [&](const std::string& phase, int64_t iteration, Clock::time_point last,
                            double limit) {
    const double seconds = in_seconds(now - last);
    if (limit > 0 && seconds > limit && (!longest || seconds > longest->seconds))
      longest = Silence{phase, iteration, seconds, limit};
  };
  for (const auto& [name, source] : sources_)
    consider(source.phase, source.iteration, source.last, limit_of(source));
  if (sources_.empty()) consider("output", 0, output_, limits_.output);
  return longest;
}

std::string describe(const Watch::Silence& silence) {
  const auto text = [](double seconds) { return fmt::format("{:.{}f} s", seconds, seconds < 10 ? 1 : 0); };
  if (silence.phase == "output")
    return fmt::format("no output for {}, and it gives no heartbeats (limit {})", text(silence.seconds),
                       text(silence.limit));
  return fmt::format("no heartbeat for {} in phase {}, iteration {} (limit {})", text(silence.seconds),
                     silence.phase, silence.iteration, text(silence.limit));
}

}  // namespace flagscale::launch
