#include "launch/launcher/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace flagscale::launch {

namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kLongestLine = size_t{1} << 20;
constexpr std::chrono::milliseconds kTick{50};       // how often a child is looked at where nothing wakes us
constexpr std::chrono::milliseconds kLeftOpen{500};  // how long after its end a child's pipes may stay open

std::array<int, 2> make_pipe() {
  std::array<int, 2> ends;
  if (pipe2(ends.data(), O_CLOEXEC) != 0) fail(ErrorKind::kResource, "no pipe: {}", std::strerror(errno));
  return ends;
}

int open_file(const std::filesystem::path& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(ErrorKind::kResource, "cannot read {}: {}", path.string(), std::strerror(errno));
  return fd;
}

void close_fd(int& fd) {
  if (fd >= 0) close(fd);
  fd = -1;
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

pid_t spawn(const Command& command, int in, int out, int err) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&actions, in, 0);
  posix_spawn_file_actions_adddup2(&actions, out, 1);
  posix_spawn_file_actions_adddup2(&actions, err, 2);
  if (!command.directory.empty()) posix_spawn_file_actions_addchdir_np(&actions, command.directory.c_str());
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
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

std::chrono::milliseconds left(Clock::time_point deadline) {
  const auto time = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  return std::clamp(time, std::chrono::milliseconds(0), std::chrono::milliseconds(1 << 30));
}

}  // namespace

Child::Child(const Command& command, const std::filesystem::path& input) {
  FLAGSCALE_CHECK(!command.argv.empty());
  const std::array<int, 2> in = input.empty() ? make_pipe() : std::array{open_file(input), -1};
  const std::array<int, 2> out = make_pipe(), err = make_pipe();
  stdin_ = in[1], out_.fd = out[0], err_.fd = err[0];
  try {
    pid_ = spawn(command, in[0], out[1], err[1]);
  } catch (...) {
    for (int fd : {in[0], out[1], err[1], in[1], out[0], err[0]})
      if (fd >= 0) close(fd);
    throw;
  }
  for (int fd : {in[0], out[1], err[1]}) close(fd);
  for (int fd : {stdin_, out_.fd, err_.fd})
    if (fd >= 0) fcntl(fd, F_SETFL, O_NONBLOCK);
  pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::exchange(other.pidfd_, -1)),
      stdin_(std::exchange(other.stdin_, -1)),
      out_{std::exchange(other.out_.fd, -1), std::move(other.out_.text)},
      err_{std::exchange(other.err_.fd, -1), std::move(other.err_.text)},
      unwritten_(std::move(other.unwritten_)),
      written_(other.written_),
      close_when_written_(other.close_when_written_),
      exited_(other.exited_),
      ended_(other.ended_),
      exit_code_(other.exit_code_),
      exit_time_(other.exit_time_) {}

Child::~Child() {
  if (pid_ > 0 && !exited_) {
    kill(-pid_, SIGKILL);  // the session that it leads
    waitpid(pid_, nullptr, 0);
  }
  for (int* fd : {&pidfd_, &stdin_, &out_.fd, &err_.fd}) close_fd(*fd);
}

void Child::write(std::string_view text) {
  unwritten_ += text;
  feed();
}

void Child::close_stdin() {
  close_when_written_ = true;
  feed();
}

void Child::signal(int number) const {
  if (pid_ > 0 && !exited_) kill(pid_, number);
}

// SIGPIPE is blocked for the write, and taken where it came: a child that reads no more is not our end.
void Child::feed() {
  sigset_t pipe, before;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, &before);
  while (stdin_ >= 0 && written_ < unwritten_.size()) {
    const ssize_t n = ::write(stdin_, unwritten_.data() + written_, unwritten_.size() - written_);
    if (n > 0) written_ += static_cast<size_t>(n);
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0 && errno != EINTR) {
      close_fd(stdin_);
      const timespec now{};
      sigtimedwait(&pipe, nullptr, &now);
    }
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (written_ == unwritten_.size()) unwritten_.clear(), written_ = 0;
  if (unwritten_.empty() && close_when_written_) close_fd(stdin_);
}

void Child::read_from(Stream& stream) {
  char buffer[1 << 16];
  while (stream.fd >= 0) {
    const ssize_t n = read(stream.fd, buffer, sizeof buffer);
    if (n > 0) stream.text.append(buffer, static_cast<size_t>(n));
    if (n > 0 && stream.text.size() >= 4 * kLongestLine) return;  // whoever takes lines comes first
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) close_fd(stream.fd);
  }
}

void Child::collect() {
  feed();
  read_from(out_);
  read_from(err_);
  int status = 0;
  if (!exited_ && waitpid(pid_, &status, WNOHANG) == pid_) {
    exited_ = true;
    exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    exit_time_ = Clock::now();
    close_fd(pidfd_);
    close_fd(stdin_);
    read_from(out_);
    read_from(err_);
  }
  const bool drained = out_.fd < 0 && err_.fd < 0;
  ended_ = exited_ && (drained || Clock::now() - exit_time_ >= kLeftOpen);
}

std::vector<std::string> Child::take(Stream& stream) const {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t end; (end = stream.text.find('\n', begin)) != std::string::npos; begin = end + 1)
    lines.push_back(stream.text.substr(begin, end - begin));
  stream.text.erase(0, begin);
  if (stream.text.size() >= kLongestLine || (ended_ && !stream.text.empty()))
    lines.push_back(std::exchange(stream.text, {}));
  return lines;
}

void poll_children(const std::vector<Child*>& children, std::chrono::milliseconds time) {
  std::vector<pollfd> fds;
  bool ticks = false;
  for (const Child* child : children) {
    if (child->ended_) continue;
    for (int fd : {child->out_.fd, child->err_.fd, child->pidfd_})
      if (fd >= 0) fds.push_back({fd, POLLIN, 0});
    if (child->stdin_ >= 0 && !child->unwritten_.empty()) fds.push_back({child->stdin_, POLLOUT, 0});
    ticks |= child->exited_ || child->pidfd_ < 0;
  }
  if (ticks) time = std::min(time, kTick);
  poll(fds.data(), fds.size(), static_cast<int>(time.count()));
  for (Child* child : children)
    if (!child->ended_) child->collect();
}

std::vector<Finished> run_all(const std::vector<Command>& commands, std::chrono::milliseconds time,
                              const std::filesystem::path& input) {
  std::vector<Child> children;
  children.reserve(commands.size());
  for (const Command& command : commands) {
    children.emplace_back(command, input);
    children.back().close_stdin();
  }
  std::vector<Child*> running;
  for (Child& child : children) running.push_back(&child);
  std::vector<Finished> results(commands.size());
  const auto deadline = Clock::now() + time;
  while (!running.empty()) {
    poll_children(running, time.count() == 0 ? std::chrono::seconds(1) : left(deadline));
    if (time.count() != 0 && Clock::now() >= deadline)
      for (Child* child : running) child->signal(SIGKILL);
    for (size_t i = 0; i < children.size(); ++i) {
      for (const std::string& line : children[i].lines_out()) results[i].out += line + "\n";
      for (const std::string& line : children[i].lines_err()) results[i].err += line + "\n";
      results[i].exit_code = children[i].exit_code();
    }
    std::erase_if(running, [](const Child* child) { return child->ended(); });
  }
  return results;
}

}  // namespace flagscale::launch
