// What the agents of a group report, and what it means when one is no longer heard.

#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "launch/agent/agent.h"
#include "launch/run/rank_group.h"

namespace flagscale::launch {

namespace {

constexpr int kWayFailed = 255;  // ssh's exit code where the connection itself has ended

}  // namespace

void RankGroup::hear(size_t i) {
  Rank& rank = ranks_[i];
  try {
    const bool open = rank.link->receive();
    for (Frame frame; rank.link && rank.link->next(frame);) {
      if (frame.kind == FrameKind::kMessage) {
        on_report(i, read_report(frame.bytes));
        continue;
      }
      output_.write(i, frame.kind, frame.bytes);
      copies_.write(*rank.task, frame.bytes);
      if (rank.watch) rank.watch->output(Clock::now());
    }
    if (!open && rank.link) on_link_lost(i, rank.link->why());
  } catch (const Error& error) {
    on_link_lost(i, error.what());
  }
}

void RankGroup::on_report(size_t i, const Report& report) {
  Rank& rank = ranks_[i];
  if (report.attempt != attempt_ && report.kind != Report::Kind::kReady) return;
  switch (report.kind) {
    case Report::Kind::kReady:
      rank.agent = report.process;
      return record_.agent(rank.task->rank, report.process, report.host);
    case Report::Kind::kStarted:
      return on_started(rank, report);
    case Report::Kind::kRefused:
      rank.gone = true;
      return fail(i, report.text, kPeersGrace, 1, true);
    case Report::Kind::kExited:
      return on_exit(i, report);
    case Report::Kind::kGone:
      rank.gone = true;
      output_.flush(i);
      if (!report.text.empty())
        warn("{}: processes {} could not be killed: they wait in the kernel", rank.place(), report.text);
      return;
    case Report::Kind::kBeat: {
      const auto now = Clock::now();
      if (rank.watch) rank.watch->beat(report.text, report.phase, report.iteration, now);
      if (i == 0) notice_a_start_from_nothing(rank, report);
      return rank.progress->beat(report, now, record_);
    }
    case Report::Kind::kStacks:
      return hangs_.stacks(rank, report.text);
    case Report::Kind::kTick:
      return;
  }
}

void RankGroup::on_started(Rank& rank, const Report& report) {
  rank.started = true;
  rank.watch.emplace(options_.limits).start(Clock::now());
  if (rank.local) rank.cgroup = Cgroup(report.cgroup);
  record_.started(rank.task->rank, report.process, report.cgroup);
  const bool all = std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& one) { return one.started; });
  if (ending_ || !all) return;
  enter(RunState::kRunning);
  if (on_running) std::exchange(on_running, nullptr)();
}

void RankGroup::on_exit(size_t i, const Report& report) {
  Rank& rank = ranks_[i];
  const bool by_us = ended_by_us(report.status);
  rank.progress->end(Clock::now(), record_);
  record_.exited(rank.task->rank, report.status, by_us);
  rank.exited(report.status, report.text, by_us);
  if (report.status.code != 0) return fail(i, rank.what, kPeersGrace, rank.code, false);
  end_followers();
}

// Checkpoints are the first rank's: on a host that is lost, and that shares no file system, they are lost
// too.
void RankGroup::notice_a_start_from_nothing(const Rank& rank, const Report& report) {
  const int64_t reached = reached_;
  reached_ = std::max(reached_, report.iteration);
  if (attempt_ == 1 || report.phase != "first_step" || report.iteration > 0 || reached == 0) return;
  reached_ = 0;
  record_.event("no checkpoint", rank.task->rank, rank.task->host.name);
  warn(
      "{} begins at iteration 0, and {} had been done: it finds no checkpoint there. One of another host is "
      "read where all share its folder",
      rank.place(), reached);
}

// Of a Ray cluster the other hosts' nodes, when what used them is done.
void RankGroup::end_followers() {
  const auto is_done = [](const Rank& rank) {
    return rank.task->follows || (rank.status && rank.status->code == 0);
  };
  if (!ending_ && std::all_of(ranks_.begin(), ranks_.end(), is_done)) end(kPeersGrace, false);
}

// The connection is closed: for an agent on this machine those above it have ended, or are ending, all that
// ran. Where they were killed as well its control group is left.
void RankGroup::on_link_lost(size_t i, const std::string& what) {
  Rank& rank = ranks_[i];
  const auto heard = rank.link->heard();
  rank.link.reset();
  output_.flush(i);
  rank.cgroup.kill();
  if (rank.gone) return;
  int status = 0;
  if (rank.way > 0 && waitpid(rank.way, &status, 0) == rank.way) rank.way = 0;
  rank.gone = true;
  if (by_user_ || rank.status) return;
  const ExitStatus ended{WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), 0};
  if (!rank.local && rank.agent.pid != 0 &&
      ended.code == kWayFailed) {  // the agent there learns it by silence
    const std::chrono::duration<double> longest{options_.lost_after + kOrphanGrace + kLeftoverGrace};
    free_from_ = std::max(free_from_, heard + std::chrono::duration_cast<Clock::duration>(longest));
  }
  const std::string explained = options_.explain_link ? options_.explain_link(*rank.task, ended.code) : "";
  std::string why = !explained.empty() ? explained
                    : !what.empty()    ? fmt::format("its agent cannot be reached: {}", what)
                    : ended.code > 128
                        ? fmt::format("its agent {}", describe(ExitStatus{ended.code, ended.code - 128}))
                        : fmt::format("its agent ended (exit code {})", ended.code);
  rank.ends(Ending::How::kSignal, SIGKILL, ending_ && Clock::now() >= kill_after_);
  const bool never_there = rank.agent.pid == 0;
  fail(i, (never_there ? "does not start: " : "is cut off: ") + why, kPeersGrace, 1,
       never_there && attempt_ == 1 && !options_.elastic);
}

// Out of reach: its agent, which hears nothing either, ends the tree within the same time.
void RankGroup::on_host_lost(size_t i) {
  Rank& rank = ranks_[i];
  rank.link.reset();
  if (rank.way > 0) kill(rank.way, SIGKILL);
  constexpr std::chrono::duration<double> kSurely{kOrphanGrace + kLeftoverGrace};
  rank.surely_gone = Clock::now() + std::chrono::duration_cast<Clock::duration>(kSurely);
  rank.ends(Ending::How::kLost, 0, false);
  fail(i, fmt::format("is lost: nothing was heard of its host for {:.0f} s", options_.lost_after),
       kPeersGrace, 1, false);
}

}  // namespace flagscale::launch
