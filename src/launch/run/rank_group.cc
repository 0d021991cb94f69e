#include "launch/run/rank_group.h"

#include <algorithm>
#include <csignal>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "launch/agent/agent.h"
#include "launch/run/verdict.h"

namespace flagscale::launch {

namespace {

using Seconds = std::chrono::duration<double>;

constexpr double kHungGrace = 2;  // s, for a rank that no longer gets on
constexpr int kUsageMistake = 2;  // our own exit code for what a restart cannot mend (base/error.h)

std::chrono::steady_clock::duration ticks(double seconds) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(Seconds(seconds));
}

}  // namespace

RankGroup::RankGroup(const Job& job, const RunOptions& options, RunRecord& record, OpenLink open_link,
                     bool shown)
    : job_(job),
      options_(options),
      record_(record),
      open_link_(std::move(open_link)),
      shown_(shown),
      output_(0, shown),
      copies_(job),
      hangs_(job.log, record) {
  use(job.nodes);
}

RankGroup::~RankGroup() { part(); }

void RankGroup::use(std::vector<NodeTask> nodes) {
  nodes_ = std::move(nodes);
  ranks_.clear();
  for (const NodeTask& node : nodes_) ranks_.emplace_back(node);
  output_ = LiveOutput(nodes_.size(), shown_);
  copies_.forget();
}

void RankGroup::enter(RunState state) {
  if (std::exchange(state_, state) != state) record_.state(state);
}

bool RankGroup::gone() const {
  return std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.gone; });
}

Order RankGroup::start_order(const Rank& rank) const {
  Order order{.kind = Order::Kind::kStart, .attempt = attempt_, .task = *rank.task};
  order.pid_file = job_.log / "pids" / (rank.task->output.stem().string() + ".pid");
  order.folders = job_.folders, order.files = job_.files;
  order.before_start = job_.before_start, order.after_stop = job_.after_stop;
  order.apart = ranks_.size() == 1 && LiveOutput::apart();
  order.lost_after = rank.local ? 0 : options_.lost_after;
  return order;
}

void RankGroup::start() {
  ++attempt_;
  state_ = RunState::kStarting;
  ending_ = by_user_ = false;
  first_failed_.reset();
  hangs_.forget();
  for (size_t i = 0; i < ranks_.size(); ++i) {
    Rank& rank = ranks_[i];
    rank.forget_start();
    output_.forget(i);
    if (!rank.link) rank.open(open_link_);
    rank.gone = false;
    rank.link->order(start_order(rank));
  }
}

void RankGroup::end(double grace, bool by_user) {
  ending_ = true;
  by_user_ = by_user_ || by_user;
  kill_after_ = Clock::now() + ticks(grace);
  for (Rank& rank : ranks_) {
    if (rank.gone || !rank.link) continue;
    rank.link->order({.kind = Order::Kind::kStop, .attempt = attempt_, .grace = grace, .by_user = by_user});
  }
}

void RankGroup::reap() {
  for (Rank& rank : ranks_) rank.reap();
}

void RankGroup::part() {
  for (Rank& rank : ranks_) rank.link.reset();
  const auto end = Clock::now() + ticks(kOrphanGrace);
  const auto waits = [](const Rank& rank) { return rank.way > 0; };
  for (reap(); std::any_of(ranks_.begin(), ranks_.end(), waits) && Clock::now() < end; reap())
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  for (const Rank& rank : ranks_) rank.cgroup.remove_soon();
}

void RankGroup::add_files(std::vector<pollfd>& files) const {
  for (const Rank& rank : ranks_) {
    if (!rank.link) continue;
    files.push_back({rank.link->readable(), POLLIN, 0});
    if (rank.link->writable() >= 0) files.push_back({rank.link->writable(), POLLOUT, 0});
  }
}

void RankGroup::turn() {
  for (size_t i = 0; i < ranks_.size(); ++i) {
    if (ranks_[i].link) ranks_[i].link->flush();
    if (ranks_[i].link) hear(i);
  }
  reap();
  const auto now = Clock::now();
  pass_over_missed_time(now);
  for (size_t i = 0; i < ranks_.size(); ++i) {
    Rank& rank = ranks_[i];
    if (rank.surely_gone && now >= *rank.surely_gone) rank.gone = true;
    if (rank.link && !rank.gone && !rank.local && options_.lost_after > 0 &&
        now - rank.link->heard() >= Seconds(options_.lost_after))
      on_host_lost(i);
  }
  look_for_hangs(now);
}

// A machine that was suspended, or this process stopped: nobody is late for that. Agents hear a sign of life.
void RankGroup::pass_over_missed_time(Clock::time_point now) {
  if (const auto missed = now - looked_; missed > Seconds(kTickEvery))
    for (Rank& rank : ranks_) {
      if (rank.watch) rank.watch->pass_over(missed);
      if (rank.link) rank.link->pass_over(missed);
    }
  looked_ = now;
  if (now - ticked_ < Seconds(kTickEvery)) return;
  ticked_ = now;
  for (Rank& rank : ranks_)
    if (rank.link) rank.link->order({.kind = Order::Kind::kTick});
}

void RankGroup::look_for_hangs(Clock::time_point now) {
  if (!ending_ && (state_ == RunState::kRunning || state_ == RunState::kHung)) {
    hangs_.look(ranks_, now);
    enter(hangs_.hung() ? RunState::kHung : RunState::kRunning);
  }
  const std::optional<size_t> hung = hangs_.report(now);
  if (!hung || options_.on_hang != OnHang::kRestart || ending_) return;
  ranks_[*hung].ends(Ending::How::kHung, 0, false);
  fail(*hung, "hung", kHungGrace, 1, false);
}

// Ends the job; whose fault it was is looked into when all have ended.
void RankGroup::fail(size_t i, const std::string& what, double grace, int code, bool final) {
  ranks_[i].what = what, ranks_[i].code = code;
  if (ending_) return;
  failure_.final = final;
  first_failed_ = i;
  end(grace, false);
}

// What we send at first is SIGTERM, which may also make a process exit: another signal this soon is not ours.
bool RankGroup::ended_by_us(const ExitStatus& status) const {
  if (!ending_) return false;
  return by_user_ || status.signal == 0 || status.signal == SIGTERM || Clock::now() >= kill_after_;
}

std::optional<Failure> RankGroup::tell_failure() {
  if (!first_failed_) return std::nullopt;
  std::vector<ProcessEnd> ends;
  for (size_t i = 0; i < ranks_.size(); ++i)
    ends.push_back({ranks_[i].task->host.name, ranks_[i].ending, output_.last_lines(i)});
  const Verdict verdict = judge(ends, *first_failed_);
  const Rank& rank = ranks_[verdict.culprit];
  failure_.code = rank.code;
  // A mistake in our own command line is there at the next start too.
  if (rank.ending && rank.ending->how == Ending::How::kExited)
    failure_.final =
        failure_.final || job_.mends_itself || (job_.engine == "native" && rank.code == kUsageMistake);
  const std::string what = fmt::format("{} {}", rank.place(), rank.what);
  const std::string meaning = verdict.meaning.empty() ? "" : "\n" + verdict.meaning;
  std::string lines;
  for (const std::string& line : ends[verdict.culprit].last_lines) lines += "\n  " + line;
  record_.event("failed rank", rank.task->rank, rank.what);
  record_.culprit(what + lines + meaning);
  // Of a single rank in the foreground the last lines are on the screen already.
  warn("{}", what + (ranks_.size() > 1 ? lines : "") + meaning);
  return failure_;
}

}  // namespace flagscale::launch
