#include "launch/run/hang_watch.h"

#include <fmt/chrono.h>

#include <ctime>
#include <fstream>
#include <utility>

#include "base/log.h"

namespace flagscale::launch {

namespace {

constexpr std::chrono::seconds kStacksWithin{3};

struct Silent {
  size_t rank = 0;
  Watch::Silence silence;
};

std::optional<Silent> longest_silent(const std::vector<Rank>& ranks, Watch::Clock::time_point now) {
  std::optional<Silent> worst;
  for (size_t i = 0; i < ranks.size(); ++i) {
    const auto silence = ranks[i].watch ? ranks[i].watch->silent(now) : std::nullopt;
    if (silence && (!worst || silence->seconds > worst->silence.seconds)) worst = {i, *silence};
  }
  return worst;
}

}  // namespace

void HangWatch::look(const std::vector<Rank>& ranks, Clock::time_point now) {
  const std::optional<Silent> worst = longest_silent(ranks, now);
  if (!worst) {
    if (hung_) info("{} gets on again", ranks[*hung_].place());
    return hung_.reset();
  }
  if (hung_) return;
  hung_ = worst->rank;
  const Rank& rank = ranks[*hung_];
  const std::string what = describe(worst->silence);
  record_.event("hung", rank.task->rank, what);
  pending_ = Report{fmt::format("{}: {}", rank.place(), what), "", 0, now + kStacksWithin};
  for (const Rank& one : ranks)
    if (one.link && !one.gone) {
      one.link->order({.kind = Order::Kind::kStacks});
      ++pending_->waiting;
    }
}

void HangWatch::stacks(const Rank& rank, const std::string& text) {
  if (!pending_) return;
  pending_->stacks += fmt::format("== {}\n{}\n", rank.place(), text);
  if (pending_->waiting > 0) --pending_->waiting;
}

std::optional<size_t> HangWatch::report(Clock::time_point now) {
  if (!pending_ || (pending_->waiting > 0 && now < pending_->due)) return std::nullopt;
  const Report report = *std::exchange(pending_, std::nullopt);
  const auto file = folder_ / fmt::format("hang_{:%Y%m%d_%H%M%S}.txt", fmt::gmtime(std::time(nullptr)));
  std::ofstream(file) << report.what << "\n\n" << report.stacks;
  warn("{}\nevery rank's stack is in {}", report.what, file.string());
  return hung_;
}

}  // namespace flagscale::launch
