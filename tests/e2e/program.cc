#include "tests/e2e/program.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <thread>

namespace flagscale::e2e {

namespace {

constexpr uid_t kNobody = 65534;

// The child's place in the file is this one's: it is not moved.
std::string contents(std::FILE* file) {
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = pread(fileno(file), buffer, sizeof buffer, static_cast<off_t>(text.size()))) > 0;)
    text.append(buffer, static_cast<size_t>(n));
  return text;
}

void ask_for_stacks(pid_t pid) {
  std::error_code gone;
  std::filesystem::directory_iterator at("/proc/" + std::to_string(pid) + "/task", gone);
  for (const std::filesystem::directory_iterator end; !gone && at != end; at.increment(gone))
    syscall(SYS_tgkill, pid, std::atoi(at->path().filename().c_str()), SIGRTMIN + 10);
}

// Between fork() and exec(): false when the setting cannot be had.
bool apply(const Setting& setting) {
  if (!setting.folder.empty() && chdir(setting.folder.c_str()) != 0) return false;
  for (const std::string& variable : setting.environment) putenv(const_cast<char*>(variable.c_str()));
  if (setting.file_limit > 0) {
    const rlimit limit{setting.file_limit, setting.file_limit};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return false;
  }
  return !setting.nobody || geteuid() != 0 || (setgid(kNobody) == 0 && setuid(kNobody) == 0);
}

}  // namespace

Child::Child(const std::vector<std::string>& words, const Setting& setting)
    : out_(std::tmpfile()), err_(std::tmpfile()) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_ = fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");  // kill(-1) kills everything
  if (pid_ != 0) return;
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, STDIN_FILENO);
  dup2(fileno(out_), STDOUT_FILENO);
  dup2(fileno(err_), STDERR_FILENO);
  if (!apply(setting)) _exit(126);
  execvp(arguments[0], arguments.data());
  _exit(127);
}

Child::~Child() {
  if (!ended_) {
    signal(SIGKILL);
    collect(true);
  }
  std::fclose(out_);
  std::fclose(err_);
}

void Child::collect(bool block) {
  int status = 0;
  rusage usage{};
  if (ended_ || wait4(pid_, &status, block ? 0 : WNOHANG, &usage) != pid_) return;
  ended_ = true;
  result_ = {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), contents(out_), contents(err_),
             usage.ru_maxrss,
             static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)};
}

bool Child::running() {
  collect(false);
  return !ended_;
}

void Child::signal(int number) const {
  if (!ended_) kill(pid_, number);
}

Result Child::wait() {
  collect(true);
  return result_;
}

Result Child::wait(std::chrono::seconds limit) {
  using namespace std::chrono_literals;
  const auto until = std::chrono::steady_clock::now() + limit;
  const auto ended_by = [&](auto time) {
    while (running() && std::chrono::steady_clock::now() < time) std::this_thread::sleep_for(2ms);
    return ended_;
  };
  if (ended_by(until)) return result_;
  ask_for_stacks(pid_);
  ended_by(until + 1s);
  signal(SIGKILL);
  collect(true);
  result_.err += "killed by the test, as it had not ended after " + std::to_string(limit.count()) + " s\n";
  return result_;
}

std::string Child::said() const { return contents(out_); }

std::vector<std::string> program(const std::vector<std::string>& words) {
  std::vector<std::string> all{FLAGSCALE_PROGRAM};
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

Result run(const std::vector<std::string>& words, const Setting& setting) {
  return Child(program(words), setting).wait();
}

Result run(const std::vector<std::string>& words, const std::string& folder) {
  return run(words, Setting{.folder = folder});
}

Result shell(const std::string& command, const std::string& folder) {
  const std::string bin = std::filesystem::path(FLAGSCALE_PROGRAM).parent_path();
  return Child({"bash", "-c", "PATH=" + bin + ":$PATH\n" + command}, {.folder = folder}).wait();
}

}  // namespace flagscale::e2e
