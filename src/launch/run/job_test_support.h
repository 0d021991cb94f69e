#pragma once
// For tests: jobs of small programs in a folder of their own, run here or by a process that can be killed.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "launch/agent/process.h"
#include "launch/job.h"
#include "launch/run/run_job.h"

namespace flagscale::launch {

inline bool is_there(int pid) { return runs(process_id(pid)); }  // and is no zombie

// Waits until it is so; false after ten seconds.
inline bool soon(const std::function<bool()>& condition, double seconds = 10) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

class RunningJobTest : public testing::Test {
 protected:
  RunningJobTest() { setenv("XDG_STATE_HOME", (folder_ + "/state").c_str(), 1); }
  ~RunningJobTest() override {
    for (const pid_t pid : launched_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }

  // One rank for each bash script, started in the test's folder. All on this machine.
  Job job(const std::vector<std::string>& scripts) const {
    Job job;
    job.name = "small", job.task = "train", job.engine = "test";
    job.experiment = folder_ + "/exp", job.log = folder_ + "/exp/logs";
    for (const std::string& script : scripts) {
      NodeTask node;
      node.rank = static_cast<int>(job.nodes.size());
      node.host.name = "localhost";
      node.command.argv = {"bash", "-c", script};
      node.command.env = {{"RANK", std::to_string(node.rank)}};
      node.command.directory = folder_;
      node.output = job.log / ("host_" + std::to_string(node.rank) + "_localhost.output");
      job.nodes.push_back(node);
    }
    return job;
  }

  static RunOptions quick() {
    RunOptions options;
    options.grace = 2;
    return options;
  }

  struct Outcome {
    int code = -1;
    std::string out;  // of stdout and stderr
  };
  // run_job() in this process, with its output kept.
  static Outcome run(const Job& job, const RunOptions& options = quick()) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    Outcome outcome;
    std::string error;
    try {
      outcome.code = run_job(job, options);
    } catch (const Error& thrown) {
      error = thrown.what();
    }
    std::fflush(nullptr);
    outcome.out = testing::internal::GetCapturedStdout() + testing::internal::GetCapturedStderr() + error;
    return outcome;
  }

  // The same in a process of its own, which a test may signal; its output is in the file `launcher`. `before`
  // runs there first.
  pid_t launch(const Job& job, const RunOptions& options = quick(),
               const std::function<void()>& before = nullptr) {
    const pid_t pid = fork();
    if (pid == 0) {
      setpgid(0, 0);
      const int file = open((folder_ + "/launcher").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
      dup2(file, STDOUT_FILENO);
      dup2(file, STDERR_FILENO);
      int code = 99;
      try {
        if (before) before();
        code = run_job(job, options);
      } catch (const Error& error) {
        dprintf(STDERR_FILENO, "%s\n", error.what());
        if (error.kind() == ErrorKind::kInterrupted) code = exit_code(error.kind());
      }
      _exit(code);
    }
    launched_.push_back(pid);
    return pid;
  }
  int wait_for(pid_t launcher) {
    int status = 0;
    waitpid(launcher, &status, 0);
    std::erase(launched_, launcher);
    return exit_status(status).code;
  }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string file(const std::string& name) const {  // "" where there is none
    std::ifstream in(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  bool appears(const std::string& name) const {
    return soon([&] { return file(name).ends_with('\n'); });
  }
  // A process that a script has written the number of.
  int process_in(const std::string& name) const { return appears(name) ? std::atoi(file(name).c_str()) : -1; }

  // A process that has nothing to do with any job, under a name that others kill by.
  pid_t decoy(const char* name) {
    const pid_t pid = fork();
    if (pid == 0) {
      setpgid(0, 0);
      execl("/bin/sleep", name, "1000", nullptr);
      _exit(127);
    }
    launched_.push_back(pid);
    return pid;
  }

  TemporaryFolder temporary_;
  std::string folder_ = temporary_.path;

 private:
  std::vector<pid_t> launched_;
};

}  // namespace flagscale::launch
