#include "launch/agent/spawn.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <utility>
#include <vector>

#include "base/error.h"

namespace flagscale::launch {

namespace {

struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) fail(ErrorKind::kResource, "cannot make a pipe: {}", strerror(errno));
    read = ends[0], write = ends[1];
  }
  ~Pipe() {
    if (read >= 0) close(read);
    if (write >= 0) close(write);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  int take_read() { return std::exchange(read, -1); }
  void close_write() { close(std::exchange(write, -1)); }
};

// The command's words, behind the user's shell text where there is one: they come to the shell as arguments,
// so it reads nothing in them. What the text exports stays, but for what the command itself sets.
std::vector<std::string> words_of(const Command& command, const std::string& before_start) {
  if (before_start.empty()) return command.argv;
  std::vector<std::string> words{"bash", "-c", before_start + "\nexec \"$@\"", "bash", "env"};
  for (const auto& [name, value] : command.env) words.push_back(name + "=" + value);
  words.insert(words.end(), command.argv.begin(), command.argv.end());
  return words;
}

struct StartFailure {
  int stage = 0, error = 0;
};

[[noreturn]] void report_and_exit(int fd, int stage) {
  const StartFailure failure{stage, errno};
  [[maybe_unused]] const ssize_t written = write(fd, &failure, sizeof failure);
  _exit(127);
}

void reset_signals() {
  for (int number = 1; number < NSIG; ++number) std::signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// As execvp(), which would hand a file that is no program to a shell. Returns where it fails; errno says why.
void execute(const std::vector<char*>& arguments) {
  const std::string name = arguments[0];
  if (name.find('/') != std::string::npos) {
    execv(name.c_str(), arguments.data());
    return;
  }
  const char* path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin");
  int why = ENOENT;
  for (std::string folder; std::getline(folders, folder, ':');) {
    execv((folder.empty() ? name : folder + "/" + name).c_str(), arguments.data());
    if (errno != ENOENT && errno != ENOTDIR) why = errno;
  }
  errno = why;
}

[[noreturn]] void become(const Command& command, const std::vector<std::string>& words,
                         const SpawnOptions& options, int parent, int out, int err, int report) {
  setsid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // it died before that
  reset_signals();
  options.cgroup.enter();
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  if (!command.directory.empty() && chdir(command.directory.c_str()) != 0) report_and_exit(report, 1);
  for (const auto& [name, value] : command.env) setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  execute(arguments);
  report_and_exit(report, 2);
}

void throw_start_failure(const StartFailure& failure, const Command& command, const std::string& program) {
  const ErrorKind kind = failure.error == ENOENT ? ErrorKind::kNotFound : ErrorKind::kResource;
  if (failure.stage == 1)
    fail(kind, "cannot start {} in {}: {}", program, command.directory.string(), strerror(failure.error));
  if (failure.error == ENOENT && program.find('/') == std::string::npos)
    fail(kind, "cannot start {}: there is no such program in PATH", program);
  fail(kind, "cannot start {}: {}", program, strerror(failure.error));
}

}  // namespace

Spawned spawn(const Command& command, const SpawnOptions& options) {
  if (command.argv.empty()) fail(ErrorKind::kInvalidArgument, "a command without words cannot be started");
  const std::vector<std::string> words = words_of(command, options.before_start);
  Pipe out, err, report;
  const int parent = getpid(), pid = fork();
  if (pid < 0) fail(ErrorKind::kResource, "cannot start {}: {}", words[0], strerror(errno));
  if (pid == 0)
    become(command, words, options, parent, out.write, options.apart ? err.write : out.write, report.write);
  report.close_write();
  StartFailure failure;
  if (read(report.read, &failure, sizeof failure) == sizeof failure) {  // else exec closed it
    waitpid(pid, nullptr, 0);
    throw_start_failure(failure, command, words[0]);
  }
  Spawned spawned{pid, out.take_read(), options.apart ? err.take_read() : -1};
  for (const int fd : {spawned.out, spawned.err})
    if (fd >= 0) fcntl(fd, F_SETFL, O_NONBLOCK);
  return spawned;
}

}  // namespace flagscale::launch
