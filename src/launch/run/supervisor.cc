#include "launch/run/supervisor.h"

#include <fmt/chrono.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fstream>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "launch/agent/agent.h"
#include "launch/run/verdict.h"

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {

using Seconds = std::chrono::duration<double>;

constexpr double kPeersGrace = 10;  // s, for ranks that wait for one that has failed
constexpr double kHungGrace = 2;    // s, for a rank that no longer gets on
constexpr Seconds kStacksWithin{3}, kNoteProgress{1}, kKeepMetrics{10};
constexpr int kUsageMistake = 2;  // our own exit code for what a restart cannot mend (base/error.h)

double unix_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::chrono::steady_clock::duration ticks(double seconds) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(Seconds(seconds));
}

}  // namespace

Supervisor::Supervisor(const Job& job, const RunOptions& options, RunRecord& record, OpenLink open_link,
                       bool shown)
    : job_(job),
      options_(options),
      record_(record),
      open_link_(std::move(open_link)),
      shown_(shown),
      output_(job.nodes.size(), shown),
      nodes_(job.nodes),
      ranks_(nodes_.size()) {
  for (size_t i = 0; i < ranks_.size(); ++i) ranks_[i].task = &nodes_[i];
}

Supervisor::~Supervisor() { part(); }

std::string Supervisor::place(size_t rank) const {
  return fmt::format("rank {} on {}", ranks_[rank].task->rank, ranks_[rank].task->host.name);
}

void Supervisor::enter(RunState state) {
  if (state_ == state) return;
  state_ = state;
  record_.state(state);
}

bool Supervisor::all_gone() const {
  return std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.gone; });
}

void Supervisor::open(size_t i) {
  Rank& rank = ranks_[i];
  rank.cgroup.remove();
  const AgentLink link = open_link_(*rank.task);
  rank.link = std::make_unique<RankLink>(link);
  rank.way = link.pid;
  rank.local = link.local;
}

void Supervisor::begin() {
  ending_ = false;
  culprit_.reset();
  failure_.clear();
  if (!options_.elastic) return start_all();
  part();
  gathering_ = std::make_unique<Gathering>(options_, open_link_);
}

// The ranks are those of the hosts that are there, numbered anew.
void Supervisor::start_on_those_there() {
  const std::vector<Host> hosts = gathering_->there();
  const std::string missing = gathering_->missing();
  gathering_.reset();
  const Elastic& elastic = *options_.elastic;
  if (hosts.size() < static_cast<size_t>(elastic.least)) {
    failure_ = fmt::format("{} of at least {} hosts are there after {:g} s; not there: {}", hosts.size(),
                           elastic.least, elastic.wait, missing);
    final_ = true, code_ = 1;
    return;
  }
  nodes_ = elastic.ranks(hosts);
  ranks_.clear();
  ranks_.resize(nodes_.size());
  for (size_t i = 0; i < ranks_.size(); ++i) ranks_[i].task = &nodes_[i];
  output_ = LiveOutput(nodes_.size(), shown_);
  record_.ranks(nodes_);
  if (hosts.size() < static_cast<size_t>(elastic.most))
    info("{} of {} hosts are there, {} ranks start; not there: {}", hosts.size(), elastic.most, nodes_.size(),
         missing);
  start_all();
}

void Supervisor::start_all() {
  ++attempt_;
  hang_.reset(), hung_.reset();
  for (size_t i = 0; i < ranks_.size(); ++i) {
    Rank& rank = ranks_[i];
    rank.started = false;
    rank.status.reset(), rank.surely_gone.reset(), rank.ending.reset();
    rank.what.clear();
    rank.watch.reset();
    rank.phase.clear();
    rank.metrics.clear(), rank.measured = -1, rank.kept.reset();
    output_.forget(i);
    if (!rank.link) open(i);
    rank.gone = false;
    Order order{.kind = Order::Kind::kStart, .attempt = attempt_, .task = *rank.task};
    order.pid_file = job_.log / "pids" / (rank.task->output.stem().string() + ".pid");
    order.folders = job_.folders, order.files = job_.files;
    order.before_start = job_.before_start, order.after_stop = job_.after_stop;
    order.apart = ranks_.size() == 1 && LiveOutput::apart();
    order.lost_after = rank.local ? 0 : options_.lost_after;
    rank.link->order(order);
  }
}

void Supervisor::receive(size_t i) {
  Rank& rank = ranks_[i];
  try {
    const bool open = rank.link->receive();
    for (Frame frame; rank.link && rank.link->next(frame);) {
      if (frame.kind == FrameKind::kMessage) {
        on_report(i, read_report(frame.bytes));
        continue;
      }
      output_.write(i, frame.kind, frame.bytes);
      if (rank.watch) rank.watch->output(Clock::now());
    }
    if (!open && rank.link) on_link_lost(i, rank.link->why());
  } catch (const Error& error) {
    on_link_lost(i, error.what());
  }
}

void Supervisor::on_report(size_t i, const Report& report) {
  Rank& rank = ranks_[i];
  const auto now = Clock::now();
  if (report.attempt != attempt_ && report.kind != Report::Kind::kReady) return;
  switch (report.kind) {
    case Report::Kind::kReady:
      rank.agent = report.process;
      return record_.agent(rank.task->rank, report.process, report.host);
    case Report::Kind::kStarted:
      rank.process = report.process, rank.started = true;
      rank.watch.emplace(options_.limits).start(now);
      if (rank.local) rank.cgroup = Cgroup(report.cgroup);
      record_.started(rank.task->rank, report.process, report.cgroup);
      if (!ending_ && std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& r) { return r.started; })) {
        enter(RunState::kRunning);
        if (on_running) std::exchange(on_running, nullptr)();
      }
      return;
    case Report::Kind::kRefused:
      rank.gone = true;
      return fail_rank(i, report.text, kPeersGrace, 1, true);
    case Report::Kind::kExited:
      rank.status = report.status;
      rank.watch.reset();
      keep_metrics(rank);
      if (!rank.phase.empty()) record_.progress(rank.task->rank, rank.phase, rank.iteration);
      return on_exit(i, report);
    case Report::Kind::kGone:
      rank.gone = true;
      output_.flush(i);
      if (!report.text.empty())
        warn("{}: processes {} could not be killed: they wait in the kernel", place(i), report.text);
      return;
    case Report::Kind::kBeat:
      return on_beat(rank, report);
    case Report::Kind::kStacks:
      if (!hang_) return;
      hang_->text += fmt::format("== {}\n{}\n", place(i), report.text);
      if (--hang_->waiting == 0) write_hang_report();
      return;
    case Report::Kind::kTick:
      return;
  }
}

void Supervisor::on_exit(size_t i, const Report& report) {
  Rank& rank = ranks_[i];
  const ExitStatus& status = report.status;
  const bool by_us = ended_by_us(status);
  record_.exited(rank.task->rank, status, by_us);
  if (!rank.ending) {  // else it hung, and that is why it was ended
    rank.ending = exited(rank.task->rank, status.signal != 0 ? -status.signal : status.code, unix_now());
    rank.ending->by_us = by_us;
    rank.what = report.text.empty() ? describe(status) : report.text;
    rank.code = status.code;
  }
  if (status.code != 0) fail_rank(i, rank.what, kPeersGrace, rank.code, false);
}

void Supervisor::on_beat(Rank& rank, const Report& report) {
  const auto now = Clock::now();
  if (rank.watch) rank.watch->beat(report.text, report.phase, report.iteration, now);
  if (!report.metrics.empty() && report.iteration != rank.measured)
    rank.metrics = report.metrics, rank.measured = report.iteration;
  if (!rank.kept || now - *rank.kept >= kKeepMetrics) keep_metrics(rank);
  rank.phase = report.phase, rank.iteration = report.iteration;
  if (now - rank.noted < kNoteProgress) return;
  rank.noted = now;
  record_.progress(rank.task->rank, rank.phase, rank.iteration);
}

// What is new since the last time.
void Supervisor::keep_metrics(Rank& rank) {
  if (rank.metrics.empty()) return;
  record_.metrics(rank.task->rank, rank.measured, std::exchange(rank.metrics, {}));
  rank.kept = Clock::now();
}

// The connection is closed: for an agent on this machine its keeper has ended, or is ending, all that ran.
// Where the keeper was killed as well its control group is left.
void Supervisor::on_link_lost(size_t i, const std::string& what) {
  Rank& rank = ranks_[i];
  rank.link.reset();
  output_.flush(i);
  rank.cgroup.kill();
  if (rank.gone) return;
  int status = 0;
  if (rank.way > 0 && waitpid(rank.way, &status, 0) == rank.way) rank.way = 0;
  rank.gone = true;
  if (stop_signal_ != 0 || rank.status) return;
  const ExitStatus ended{WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), 0};
  const std::string explained = options_.explain_link ? options_.explain_link(*rank.task, ended.code) : "";
  std::string why = !explained.empty() ? explained
                    : !what.empty()    ? fmt::format("its agent cannot be reached: {}", what)
                    : ended.code > 128
                        ? fmt::format("its agent {}", describe(ExitStatus{ended.code, ended.code - 128}))
                        : fmt::format("its agent ended (exit code {})", ended.code);
  rank.ending = Ending{
      rank.task->rank, Ending::How::kSignal, SIGKILL, unix_now(), ending_ && Clock::now() >= kill_after_, -1};
  fail_rank(i, why, kPeersGrace, 1, rank.agent.pid == 0 && restarts_ == 0 && !options_.elastic);
}

void Supervisor::reap_ways() {
  for (Rank& rank : ranks_)
    if (!rank.link && rank.way > 0 && waitpid(rank.way, nullptr, WNOHANG) != 0) rank.way = 0;
}

// Ends the job; whose fault it was is looked into when all have ended.
void Supervisor::fail_rank(size_t i, const std::string& what, double grace, int code, bool final) {
  ranks_[i].what = what, ranks_[i].code = code;
  if (ending_) return;
  final_ = final;
  culprit_ = i;
  end_all(grace, false);
}

// What we send at first is SIGTERM, which may also make a process exit: another signal this soon is not ours.
bool Supervisor::ended_by_us(const ExitStatus& status) const {
  if (!ending_) return false;
  return stop_signal_ != 0 || status.signal == 0 || status.signal == SIGTERM || Clock::now() >= kill_after_;
}

void Supervisor::end_all(double grace, bool by_user) {
  ending_ = true;
  kill_after_ = Clock::now() + ticks(grace);
  for (Rank& rank : ranks_) {
    if (rank.gone || !rank.link) continue;
    rank.link->order({.kind = Order::Kind::kStop, .attempt = attempt_, .grace = grace, .by_user = by_user});
  }
}

void Supervisor::on_signal(int number) {
  if (stop_signal_ != 0) return end_all(0, true);
  stop_signal_ = number;
  record_.event("stopping", -1, sigabbrev_np(number));
  if (number == SIGINT) info("\nstopping {} (Ctrl-C again kills it)", job_.name);
  end_all(options_.grace, true);
}

// With what it said last and what that means.
void Supervisor::tell_culprit() {
  std::vector<ProcessEnd> ends;
  for (size_t i = 0; i < ranks_.size(); ++i)
    ends.push_back({ranks_[i].task->host.name, ranks_[i].ending, output_.last_lines(i)});
  const Verdict verdict = judge(ends, *culprit_);
  const Rank& rank = ranks_[verdict.culprit];
  code_ = rank.code;
  // A mistake in our own command line is there at the next start too.
  if (job_.engine == "native" && rank.ending && rank.ending->how == Ending::How::kExited)
    final_ = final_ || rank.code == kUsageMistake;
  failure_ = fmt::format("{} {}", place(verdict.culprit), rank.what);
  record_.event("failed rank", rank.task->rank, rank.what);
  const std::string meaning = verdict.meaning.empty() ? "" : "\n" + verdict.meaning;
  std::string lines;
  for (const std::string& line : ends[verdict.culprit].last_lines) lines += "\n  " + line;
  record_.culprit(failure_ + lines + meaning);
  // Of a single rank in the foreground the last lines are on the screen already.
  warn("{}", failure_ + (ranks_.size() > 1 ? lines : "") + meaning);
}

void Supervisor::settle() {
  if (stop_signal_ != 0) {
    finished_ = true;
    code_ = 128 + stop_signal_;
    return record_.finish(RunState::kStopped, code_);
  }
  if (!culprit_ && failure_.empty()) {
    finished_ = true;
    return record_.finish(RunState::kCompleted, code_ = 0);
  }
  if (culprit_)
    tell_culprit();
  else
    record_.culprit(failure_), warn("{}", failure_);
  if (final_ || restarts_ >= job_.max_restarts) {
    finished_ = true;
    write_diagnostic_files(job_.log / "monitor", nodes_);
    return record_.finish(RunState::kFailed, code_);
  }
  record_.restarts(++restarts_);
  enter(RunState::kRestarting);
  info("starting again from the last checkpoint ({} of {} restarts)", restarts_, job_.max_restarts);
  try {
    begin();
  } catch (const Error& error) {  // a host that was there before
    failure_ = error.what(), final_ = true, code_ = exit_code(error.kind());
    end_all(kPeersGrace, false);
  }
}

void Supervisor::look_for_silence(Clock::time_point now) {
  if (ending_ || (state_ != RunState::kRunning && state_ != RunState::kHung)) return;
  std::optional<size_t> worst;
  std::optional<Watch::Silence> silence;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    const auto s = ranks_[i].watch ? ranks_[i].watch->silent(now) : std::nullopt;
    if (s && (!silence || s->seconds > silence->seconds)) silence = s, worst = i;
  }
  if (!silence) {
    if (state_ == RunState::kHung) info("{} gets on again", hung_ ? place(*hung_) : job_.name);
    hung_.reset();
    return enter(RunState::kRunning);
  }
  if (state_ == RunState::kHung) return;
  hung_ = worst;
  const std::string what = fmt::format("{}: {}", place(*worst), describe(*silence));
  record_.event("hung", ranks_[*worst].task->rank, describe(*silence));
  enter(RunState::kHung);
  hang_ = HangReport{what + "\n\n", 0, now + ticks(kStacksWithin.count())};
  for (Rank& rank : ranks_)
    if (rank.link && !rank.gone) {
      rank.link->order({.kind = Order::Kind::kStacks});
      ++hang_->waiting;
    }
}

void Supervisor::write_hang_report() {
  const fs::path file = job_.log / fmt::format("hang_{:%Y%m%d_%H%M%S}.txt", fmt::gmtime(std::time(nullptr)));
  std::ofstream(file) << hang_->text;
  warn("{}\nevery rank's stack is in {}", hang_->text.substr(0, hang_->text.find('\n')), file.string());
  hang_.reset();
  if (options_.on_hang != OnHang::kRestart || !hung_ || ending_) return;
  ranks_[*hung_].ending = Ending{ranks_[*hung_].task->rank, Ending::How::kHung, 0, unix_now(), false, -1};
  fail_rank(*hung_, "hung", kHungGrace, 1, false);
}

void Supervisor::keep_time() {
  const auto now = Clock::now();
  // A machine that was suspended, or this process stopped: nobody is late for that.
  if (const auto missed = now - looked_; missed > Seconds(kTickEvery))
    for (Rank& rank : ranks_) {
      if (rank.watch) rank.watch->pass_over(missed);
      if (rank.link) rank.link->pass_over(missed);
    }
  looked_ = now;
  if (now - ticked_ >= Seconds(kTickEvery)) {
    ticked_ = now;
    for (Rank& rank : ranks_)
      if (rank.link) rank.link->order({.kind = Order::Kind::kTick});
  }
  for (size_t i = 0; i < ranks_.size(); ++i) {
    Rank& rank = ranks_[i];
    if (rank.surely_gone && now >= *rank.surely_gone) rank.gone = true;
    if (!rank.link || rank.gone || rank.local || options_.lost_after <= 0 ||
        now - rank.link->heard() < Seconds(options_.lost_after))
      continue;
    // Out of reach: its agent, which hears nothing either, ends the tree within this time.
    rank.link.reset();
    if (rank.way > 0) kill(rank.way, SIGKILL);
    rank.surely_gone = now + ticks(kOrphanGrace + kLeftoverGrace);
    rank.ending = Ending{rank.task->rank, Ending::How::kLost, 0, unix_now(), false, -1};
    fail_rank(i, fmt::format("is lost: nothing was heard of its host for {:.0f} s", options_.lost_after),
              kPeersGrace, 1, false);
  }
  look_for_silence(now);
  if (hang_ && now >= hang_->due) write_hang_report();
}

void Supervisor::turn(int signals) {
  std::vector<pollfd> files{{signals, POLLIN, 0}};
  std::vector<size_t> readers;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    if (!ranks_[i].link) continue;
    readers.push_back(i);
    files.push_back({ranks_[i].link->readable(), POLLIN, 0});
    if (ranks_[i].link->writable() >= 0) files.push_back({ranks_[i].link->writable(), POLLOUT, 0});
  }
  if (gathering_) gathering_->add_files(files);
  poll(files.data(), files.size(), 250);  // ms: how late a limit may be noticed
  signalfd_siginfo signal;
  while (read(signals, &signal, sizeof signal) == sizeof signal)
    on_signal(static_cast<int>(signal.ssi_signo));
  for (const size_t i : readers) {
    if (ranks_[i].link) ranks_[i].link->flush();
    if (ranks_[i].link) receive(i);
  }
  reap_ways();
  keep_time();
}

// The links are closed, and the agents, which have nothing left, end.
void Supervisor::part() {
  for (Rank& rank : ranks_) rank.link.reset();
  const auto end = Clock::now() + ticks(kOrphanGrace);
  const auto waits = [](const Rank& rank) { return rank.way > 0; };
  for (reap_ways(); std::any_of(ranks_.begin(), ranks_.end(), waits) && Clock::now() < end; reap_ways())
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  for (const Rank& rank : ranks_) rank.cgroup.remove_soon();
}

int Supervisor::run(int signals) {
  begin();
  while (!finished_) {
    turn(signals);
    if (stop_signal_ != 0) gathering_.reset();
    if (gathering_) gathering_->turn();
    if (gathering_ && gathering_->over()) start_on_those_there();
    if (!gathering_ && all_gone()) settle();
  }
  part();
  return code_;
}

}  // namespace flagscale::launch
