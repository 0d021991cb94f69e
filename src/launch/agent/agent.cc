#include "launch/agent/agent.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/whole_file.h"
#include "launch/agent/frames.h"
#include "launch/agent/heartbeats.h"
#include "launch/agent/keepers.h"
#include "launch/agent/messages.h"
#include "launch/agent/spawn.h"
#include "launch/agent/stacks.h"
#include "launch/agent/symbols.h"
#include "launch/agent/tree.h"

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr Seconds kLookForBeats{0.25}, kStacksTake{0.3}, kAfterStopTakes{60};

int signals_as_file() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

class Agent {
 public:
  Agent(int in, int out) : in_(in), writer_(out), out_(out), signals_(signals_as_file()) {
    Report ready{.kind = Report::Kind::kReady};
    ready.process = own_;
    ready.host = machine_name(), ready.boot = boot_id();
    send(ready);
  }

  int serve() {
    while (!(leaving_ && tree_.empty())) {
      wait();
      listen();
      read_output();
      if (const auto status = tree_.reap()) on_head_exit(*status);
      if (tree_.advance(Clock::now())) on_gone();
      keep_time();
      if (!writer_.flush()) leave();
    }
    writer_.flush();
    return 0;
  }

 private:
  // -- what it is told ----------------------------------------------------------------------------------

  void listen() {
    signalfd_siginfo info;
    while (read(signals_, &info, sizeof info) == sizeof info)
      if (info.ssi_signo != SIGCHLD) leave();
    char buffer[65536];
    for (;;) {
      const ssize_t got = read(in_, buffer, sizeof buffer);
      if (got > 0) {
        reader_.feed({buffer, static_cast<size_t>(got)});
      } else {
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) leave();
        break;
      }
    }
    try {
      for (Frame frame; reader_.next(frame);)
        if (frame.kind == FrameKind::kMessage) obey(read_order(frame.bytes));
    } catch (const Error& error) {
      send({.kind = Report::Kind::kRefused, .text = error.what()});
      leave();
    }
  }

  void obey(const Order& order) {
    heard_ = Clock::now();
    if (order.kind == Order::Kind::kStart) start(order);
    if (order.kind == Order::Kind::kStop) stop(order);
    if (order.kind == Order::Kind::kStacks) collect_stacks();
  }

  void start(const Order& order) {
    // Whoever gave it may be gone already; or the last one is still ending: a launcher waits for kGone.
    if (leaving_ || !tree_.empty()) return;
    order_ = order;
    by_user_ = tidied_ = asked_ = false;
    prepared_ = 0;
    try {
      open_files();
      make_job_files();
      cgroup_ = Cgroup::make(group_names(process_id(keeper_)) + std::to_string(++starts_));
      start_next();
    } catch (const Error& error) {
      cgroup_.remove();
      close_files();
      send({.kind = Report::Kind::kRefused, .text = error.what()});
    }
  }

  // What comes before the command, then the command itself, all in one tree: a service that the former starts
  // lives as long as the latter.
  void start_next() {
    const NodeTask& task = order_.task;
    const bool prepares = prepared_ < task.prepare.size();
    Command command = prepares ? task.prepare[prepared_] : task.command;
    if (!beats_.folder().empty()) command.env.emplace("FLAGSCALE_HEARTBEATS", beats_.folder());
    run(command, {order_.before_start, order_.apart, cgroup_});
    write_pid_file();
    if (!prepares)
      send({.kind = Report::Kind::kStarted, .process = tree_.head(), .cgroup = cgroup_.folder()});
  }

  void run(const Command& command, const SpawnOptions& options) {
    const Spawned spawned = spawn(command, options);
    output_.emplace_back(spawned.out, FrameKind::kOut);
    if (spawned.err >= 0) output_.emplace_back(spawned.err, FrameKind::kErr);
    tree_.own(spawned.pid, options.cgroup);
  }

  void make_job_files() const {
    std::error_code failed;
    for (const fs::path& folder : order_.folders) {
      fs::create_directories(folder, failed);
      if (failed) fail(ErrorKind::kResource, "cannot make {}: {}", folder.string(), failed.message());
    }
    for (const JobFile& file : order_.files) write_whole_file(file.path, file.text);
  }

  void open_files() {
    const fs::path& path = order_.task.output;
    std::error_code ignored;
    fs::create_directories(path.parent_path(), ignored);
    file_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file_ < 0) fail(ErrorKind::kResource, "cannot write {}: {}", path.string(), std::strerror(errno));
    // Beside the output, so that it is found; of this rank alone, whatever else writes there.
    beats_ = Heartbeats(fs::absolute(path).parent_path() / "heartbeats" / path.stem());
  }

  void write_pid_file() const {
    if (order_.pid_file.empty()) return;
    std::error_code ignored;
    fs::create_directories(order_.pid_file.parent_path(), ignored);
    std::ofstream(order_.pid_file) << tree_.head().pid << '\n';
  }

  void stop(const Order& order) {
    by_user_ = by_user_ || order.by_user;
    asked_ = true;
    if (!tree_.empty()) return tree_.stop(Seconds(order.grace));
    send({.kind = Report::Kind::kGone});
  }

  // The launcher has gone, or another one's signal says so: the tree goes too. Without its keeper nothing
  // would end what this process leaves, so all is killed, and the launcher hears what it would hear of a
  // killed agent.
  void leave() {
    if (std::exchange(leaving_, true)) return;
    alone_ = getppid() != keeper_;
    tree_.stop(Seconds(alone_ ? 0 : kOrphanGrace));
  }

  // -- what happens to the tree -------------------------------------------------------------------------

  void read_output() {
    for (auto& [pipe, kind] : output_) drain(pipe, kind);
    std::erase_if(output_, [](const auto& pipe) { return pipe.first < 0; });
  }

  void drain(int& pipe, FrameKind kind) {
    char buffer[65536];
    for (;;) {
      const ssize_t got = read(pipe, buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got == 0) close(std::exchange(pipe, -1));
      if (got <= 0) return;
      const std::string_view bytes(buffer, static_cast<size_t>(got));
      keep(bytes);
      writer_.output(kind, bytes);
      if (stacks_due_) stacks_ += bytes;
    }
  }

  // A full disk ends neither the command nor its output elsewhere; that it is full is said once.
  void keep(std::string_view bytes) {
    while (file_ >= 0 && !bytes.empty()) {
      const ssize_t written = write(file_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) {
        writer_.output(FrameKind::kErr,
                       fmt::format("flagscale: warning: the output goes no further in {}: {}\n",
                                   order_.task.output.string(), std::strerror(errno)));
        close(std::exchange(file_, -1));
        return;
      }
      bytes.remove_prefix(static_cast<size_t>(written));
    }
  }

  void on_head_exit(const ExitStatus& status) {
    if (tidied_) return;
    read_output();  // its last words come before the news of its end
    if (prepared_ < order_.task.prepare.size() && status.code == 0 && !asked_ && !leaving_) {
      ++prepared_;
      try {
        return start_next();
      } catch (const Error& error) {  // what the preparations have started is ended as after a command
        return send({.kind = Report::Kind::kExited, .text = error.what(), .status = {1, 0}});
      }
    }
    tell_beats();
    send({.kind = Report::Kind::kExited, .status = status});
    writer_.flush();  // to look for what it left takes a while
  }

  void on_gone() {
    read_output();
    for (const auto& [pipe, kind] : output_) close(pipe);
    output_.clear();
    if (by_user_ && !std::exchange(tidied_, true) && !order_.after_stop.empty() && run_after_stop()) return;
    close_files();
    Report gone{.kind = Report::Kind::kGone};
    for (const ProcessId& process : tree_.survivors())
      gone.text += fmt::format("{}{}", gone.text.empty() ? "" : ", ", process.pid);
    send(gone);
  }

  bool run_after_stop() {
    Command command = order_.task.command;
    command.argv = {"bash", "-c", order_.after_stop};
    try {
      run(command, {});
      after_stop_end_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(kAfterStopTakes);
      return true;
    } catch (const Error& error) {
      writer_.output(FrameKind::kErr, fmt::format("flagscale: warning: after_stop: {}\n", error.what()));
      return false;
    }
  }

  void close_files() {
    if (file_ >= 0) close(std::exchange(file_, -1));
    beats_.remove();
    std::error_code ignored;
    if (!order_.pid_file.empty()) fs::remove(order_.pid_file, ignored);
    after_stop_end_.reset(), stacks_due_.reset();
  }

  void collect_stacks() {
    const auto below = descendants(getpid());
    stacks_ = kernel_stacks(below);
    beats_.news();
    for (const Beat& beat : beats_.all()) {
      const auto is_ours = [&](const ProcessId& process) { return process.pid == beat.pid; };
      if (beat.stack_signal > 0 && std::any_of(below.begin(), below.end(), is_ours))
        ask_for_stacks(beat.pid, beat.stack_signal);
    }
    stacks_due_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(kStacksTake);
  }

  // -- time ---------------------------------------------------------------------------------------------

  void keep_time() {
    const auto now = Clock::now();
    // Time in which this process itself did not run (a suspended machine) says nothing of the launcher.
    if (now - looked_ > Seconds(kTickEvery)) heard_ = now;
    looked_ = now;
    const bool due = now - ticked_ >= Seconds(kTickEvery);
    if (due) ticked_ = now, send({.kind = Report::Kind::kTick});
    if (order_.lost_after > 0 && now - heard_ > Seconds(order_.lost_after)) leave();
    if (after_stop_end_ && now >= *after_stop_end_) after_stop_end_.reset(), tree_.stop(Seconds(0));
    if (stacks_due_ && now >= *stacks_due_) {
      stacks_due_.reset();
      send({.kind = Report::Kind::kStacks, .text = with_function_names(std::exchange(stacks_, {}))});
    }
    if (tree_.empty() || now - beats_read_ < kLookForBeats) return;
    beats_read_ = now;
    tell_beats();
  }

  void tell_beats() {
    for (const Beat& beat : beats_.news())
      send({.kind = Report::Kind::kBeat,
            .text = beat.source,
            .phase = beat.phase,
            .iteration = beat.iteration,
            .metrics = beat.metrics});
  }

  void wait() const {
    auto next = looked_ + std::chrono::duration_cast<Clock::duration>(Seconds(kTickEvery / 2));
    const auto sooner = [&](Clock::time_point time) { next = std::min(next, time); };
    if (!tree_.empty()) sooner(beats_read_ + std::chrono::duration_cast<Clock::duration>(kLookForBeats));
    if (const auto step = tree_.next_step()) sooner(*step);
    if (stacks_due_) sooner(*stacks_due_);
    std::vector<pollfd> files{{leaving_ ? -1 : in_, POLLIN, 0},
                              {signals_, POLLIN, 0},
                              {writer_.waits() && !leaving_ ? out_ : -1, POLLOUT, 0}};
    for (const auto& [pipe, kind] : output_) files.push_back({pipe, POLLIN, 0});
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now());
    poll(files.data(), files.size(), static_cast<int>(std::max<int64_t>(left.count(), 0)));
  }

  void send(Report report) {
    if (alone_) return;
    report.attempt = order_.attempt;
    writer_.message(to_json(report));
  }

  const ProcessId own_ = process_id(getpid());
  const int keeper_ = getppid();
  int in_;
  FrameReader reader_;
  FrameWriter writer_;
  int out_, signals_;
  bool leaving_ = false, alone_ = false;

  Order order_{.lost_after = 0};
  ProcessTree tree_;
  int starts_ = 0;
  std::vector<std::pair<int, FrameKind>> output_;  // pipes
  Cgroup cgroup_;
  size_t prepared_ = 0;
  int file_ = -1;
  bool by_user_ = false, tidied_ = false, asked_ = false;
  Heartbeats beats_;
  std::string stacks_;
  std::optional<Clock::time_point> stacks_due_, after_stop_end_;
  Clock::time_point heard_ = Clock::now(), looked_ = heard_, ticked_ = heard_, beats_read_ = heard_;
};

int serve_launcher(int in, int out) noexcept {
  fcntl(in, F_SETFL, fcntl(in, F_GETFL) | O_NONBLOCK);
  return Agent(in, out).serve();
}

}  // namespace

int run_agent(int in, int out) { return run_below_keepers(in, out, serve_launcher); }

}  // namespace flagscale::launch
