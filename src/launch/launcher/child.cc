#include "launch/launcher/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/interrupt.h"

namespace flagscale::launch {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kTick{10};  // between looks for a child's end
constexpr std::chrono::milliseconds kLeftOpen{
    500};  // how long after its end what it started may hold its pipes

// A file descriptor of this process; closed with the object unless it was taken.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(Fd&& other) noexcept : fd_(other.take()) {}
  Fd& operator=(Fd&& other) noexcept {
    reset();
    fd_ = other.take();
    return *this;
  }
  int get() const { return fd_; }
  int take() { return std::exchange(fd_, -1); }
  void reset() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

std::array<Fd, 2> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) fail(ErrorKind::kResource, "no pipe: {}", std::strerror(errno));
  return {Fd(ends[0]), Fd(ends[1])};
}

Fd open_file(const std::filesystem::path& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) fail(ErrorKind::kResource, "cannot read {}: {}", path.string(), std::strerror(errno));
  return fd;
}

// NAME=value of this process, with those of the command over them.
std::vector<std::string> environment(const std::map<std::string, std::string>& changes) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry; ++entry) {
    const std::string_view text = *entry;
    if (!changes.contains(std::string(text.substr(0, text.find('='))))) result.emplace_back(text);
  }
  for (const auto& [name, value] : changes) result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> result;
  for (const std::string& word : words) result.push_back(const_cast<char*>(word.c_str()));
  result.push_back(nullptr);
  return result;
}

pid_t spawn_with(const Command& command, int in, int out, int err) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&actions, in, 0);
  posix_spawn_file_actions_adddup2(&actions, out, 1);
  posix_spawn_file_actions_adddup2(&actions, err, 2);
  if (!command.directory.empty()) posix_spawn_file_actions_addchdir_np(&actions, command.directory.c_str());
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const auto env = environment(command.env);
  const auto argv = pointers(command.argv);
  const auto envp = pointers(env);
  pid_t pid = -1;
  const int error = posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error == ENOENT)
    fail(ErrorKind::kNotFound, "there is no program '{}'{}", command.argv[0],
         command.directory.empty() ? "" : ", or no folder " + command.directory.string());
  if (error != 0)
    fail(ErrorKind::kResource, "'{}' does not start: {}", command.argv[0], std::strerror(error));
  return pid;
}

// A child whose output is gathered; killed, with its session, where it is left before its end.
class Gathered {
 public:
  explicit Gathered(const Started& started) : pid_(started.pid), out_(started.out), err_(started.err) {
    for (const Fd* fd : {&out_, &err_}) fcntl(fd->get(), F_SETFL, O_NONBLOCK);
  }
  Gathered(Gathered&& other) noexcept = default;
  ~Gathered() {
    if (exited_ || out_.get() == -1) return;
    kill_session();
    waitpid(pid_, nullptr, 0);
  }

  void kill_session() const {
    if (!exited_) kill(-pid_, SIGKILL);
  }

  void collect() {
    int status = 0;
    if (!exited_ && waitpid(pid_, &status, WNOHANG) == pid_) {
      exited_ = true;
      exit_time_ = Clock::now();
      result.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    read_from(out_, result.out);
    read_from(err_, result.err);
  }
  bool ended() const {
    return exited_ && ((out_.get() < 0 && err_.get() < 0) || Clock::now() - exit_time_ >= kLeftOpen);
  }
  void add_to(std::vector<pollfd>& fds) const {
    for (const Fd* fd : {&out_, &err_})
      if (fd->get() >= 0) fds.push_back({fd->get(), POLLIN, 0});
  }

  Finished result;

 private:
  static void read_from(Fd& fd, std::string& text) {
    char buffer[1 << 16];
    while (fd.get() >= 0) {
      const ssize_t n = read(fd.get(), buffer, sizeof buffer);
      if (n > 0) text.append(buffer, static_cast<size_t>(n));
      if (n < 0 && errno == EAGAIN) return;
      if (n == 0 || (n < 0 && errno != EINTR)) fd.reset();
    }
  }

  pid_t pid_;
  Fd out_, err_;
  bool exited_ = false;
  Clock::time_point exit_time_;
};

}  // namespace

Started start_child(const Command& command, const ChildFiles& files) {
  FLAGSCALE_CHECK(!command.argv.empty());
  std::array<Fd, 2> in, out = make_pipe(), err;
  if (files.in < 0) in = make_pipe();
  if (files.err < 0) err = make_pipe();
  Started result;
  result.pid = spawn_with(command, files.in < 0 ? in[0].get() : files.in, out[1].get(),
                          files.err < 0 ? err[1].get() : files.err);
  result.in = in[1].take();
  result.out = out[0].take();
  result.err = err[0].take();
  return result;
}

std::vector<Finished> run_all(const std::vector<Command>& commands, std::chrono::milliseconds time,
                              const std::filesystem::path& input, OnInterrupt on_interrupt) {
  std::vector<Gathered> children;
  children.reserve(commands.size());
  for (const Command& command : commands) {
    const Fd file = open_file(input.empty() ? "/dev/null" : input);
    children.emplace_back(start_child(command, {.in = file.get()}));
  }
  const auto deadline = Clock::now() + time;
  while (true) {
    if (on_interrupt == OnInterrupt::kEnd) throw_if_interrupted();
    std::vector<pollfd> fds;
    bool running = false;
    for (Gathered& child : children) {
      child.collect();
      child.add_to(fds);
      running |= !child.ended();
    }
    if (!running) break;
    if (time.count() != 0 && Clock::now() >= deadline)
      for (const Gathered& child : children) child.kill_session();
    poll(fds.data(), fds.size(), static_cast<int>(kTick.count()));
  }
  std::vector<Finished> results;
  for (Gathered& child : children) results.push_back(std::move(child.result));
  return results;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace flagscale::launch
