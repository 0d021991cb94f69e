#include "tests/e2e/server_process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <system_error>

namespace flagscale::e2e {

ServerProcess::ServerProcess(const std::vector<std::string>& words, const std::string& folder, bool whole) {
  std::vector<std::string> all{FLAGSCALE_PROGRAM};
  if (!whole) all.push_back("serve");
  all.insert(all.end(), words.begin(), words.end());
  if (!whole) all.insert(all.end(), {"--port", "0"});
  std::vector<char*> arguments;
  for (std::string& word : all) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return;
  child_ = fork();
  if (child_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child_ == 0) {
    if (!folder.empty() && chdir(folder.c_str()) != 0) _exit(126);
    dup2(ends[1], STDOUT_FILENO);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  close(ends[1]);
  out_ = ends[0];
  for (char c; ready_.find('\n') == std::string::npos && read(out_, &c, 1) == 1;) ready_ += c;
}

ServerProcess::~ServerProcess() {
  if (child_ > 0) {
    signal(SIGKILL);
    wait();
  }
  if (out_ >= 0) close(out_);
}

int ServerProcess::port() const {
  const size_t at = ready_.find("127.0.0.1:");
  return at == std::string::npos ? 0 : std::atoi(ready_.c_str() + at + 10);
}

void ServerProcess::signal(int number) const {
  if (child_ > 0) kill(child_, number);  // kill(-1) kills everything
}

int ServerProcess::wait() {
  int status = 0;
  waitpid(child_, &status, 0);
  child_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace flagscale::e2e
