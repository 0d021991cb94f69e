#include "launch/run/supervisor.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "launch/run/verdict.h"

namespace flagscale::launch {

Supervisor::Supervisor(const Job& job, const RunOptions& options, RunRecord& record, OpenLink open_link,
                       bool shown)
    : job_(job),
      options_(options),
      record_(record),
      open_link_(std::move(open_link)),
      ranks_(job, options, record, open_link_, shown) {}

void Supervisor::begin() {
  no_start_.reset();
  if (!options_.elastic) return ranks_.start();
  ranks_.part();
  gathering_ = std::make_unique<Gathering>(options_, open_link_);
}

// The ranks are those of the hosts that are there, numbered anew.
void Supervisor::start_on_those_there() {
  const std::vector<Host> hosts = gathering_->there();
  const std::string missing = gathering_->missing();
  gathering_.reset();
  const Elastic& elastic = *options_.elastic;
  if (hosts.size() < static_cast<size_t>(elastic.least))
    return could_not_begin(fmt::format("{} of at least {} hosts are there after {:g} s; not there: {}",
                                       hosts.size(), elastic.least, elastic.wait, missing),
                           1);
  ranks_.use(elastic.ranks(hosts));
  record_.ranks(ranks_.nodes());
  if (hosts.size() < static_cast<size_t>(elastic.most))
    info("{} of {} hosts are there, {} ranks start; not there: {}", hosts.size(), elastic.most,
         ranks_.nodes().size(), missing);
  ranks_.start();
}

void Supervisor::could_not_begin(const std::string& why, int code) {
  no_start_ = Failure{code, true};
  record_.culprit(why);
  warn("{}", why);
}

void Supervisor::finish(RunState state, int code) {
  finished_ = true;
  record_.finish(state, code_ = code);
}

void Supervisor::on_signal(int number) {
  if (stop_signal_ != 0) return ranks_.end(0, true);
  stop_signal_ = number;
  gathering_.reset();
  record_.event("stopping", -1, sigabbrev_np(number));
  if (number == SIGINT) info("\nstopping {} (Ctrl-C again kills it)", job_.name);
  ranks_.end(options_.grace, true);
}

void Supervisor::settle() {
  if (stop_signal_ != 0) return finish(RunState::kStopped, 128 + stop_signal_);
  const std::optional<Failure> failure = no_start_ ? no_start_ : ranks_.tell_failure();
  if (!failure) return finish(RunState::kCompleted, 0);
  if (failure->final || restarts_ >= job_.max_restarts) {
    write_diagnostic_files(job_.log / "monitor", ranks_.nodes());
    return finish(RunState::kFailed, failure->code);
  }
  record_.restarts(++restarts_);
  record_.state(RunState::kRestarting);
  info("starting again from the last checkpoint ({} of {} restarts)", restarts_, job_.max_restarts);
  again_ = ranks_.free_from();
  const std::chrono::duration<double> wait = *again_ - RankGroup::Clock::now();
  if (wait.count() <= 0) return begin_again();
  info("in {:.0f} s, when what still runs on a host that is out of reach has ended", wait.count());
}

void Supervisor::begin_again() {
  again_.reset();
  try {
    begin();
  } catch (const Error& error) {  // a host that was there before
    could_not_begin(error.what(), exit_code(error.kind()));
    ranks_.end(kPeersGrace, false);
  }
}

void Supervisor::turn(int signals) {
  std::vector<pollfd> files{{signals, POLLIN, 0}};
  ranks_.add_files(files);
  if (gathering_) gathering_->add_files(files);
  poll(files.data(), files.size(), 250);  // ms: how late a limit may be noticed
  signalfd_siginfo signal;
  while (read(signals, &signal, sizeof signal) == sizeof signal)
    on_signal(static_cast<int>(signal.ssi_signo));
  ranks_.turn();
  if (gathering_) gathering_->turn();
  if (gathering_ && gathering_->over()) start_on_those_there();
}

int Supervisor::run(int signals, std::function<void()> on_running) {
  ranks_.on_running = std::move(on_running);
  begin();
  while (!finished_) {
    turn(signals);
    if (again_ && stop_signal_ == 0) {
      if (RankGroup::Clock::now() >= *again_) begin_again();
    } else if (!gathering_ && ranks_.gone()) {
      settle();
    }
  }
  ranks_.part();
  return code_;
}

}  // namespace flagscale::launch
