#pragma once
// For tests: a job's nodes, started through a launcher, with what they said and how they ended.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/temporary_folder_test_support.h"
#include "launch/launcher/launcher.h"

namespace flagscale::launch {

inline std::string executable(const TemporaryFolder& folder, const std::string& name,
                              const std::string& text) {
  const std::string path = folder.put(name, text);
  chmod(path.c_str(), 0755);
  return path;
}

inline Job job_on(const std::vector<std::string>& hosts) {
  Job job;
  job.name = "test";
  for (const std::string& host : hosts) {
    NodeTask task;
    task.rank = static_cast<int>(job.nodes.size());
    task.host.name = host;
    task.host.slots = 1;
    job.nodes.push_back(task);
  }
  return job;
}

// Waits for it, `most` at most; whether it came.
template <class Condition>
bool comes_true(const Condition& condition, std::chrono::seconds most = std::chrono::seconds(30)) {
  const auto deadline = std::chrono::steady_clock::now() + most;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

// An agent in the tests: a script that reads a line and does it: a number is its exit code, "wait" waits for
// the end of its stdin, "deaf" for nothing.
inline constexpr const char* kScriptedAgent = R"(#!/bin/sh
read -r what
echo "agent $* got $what"
echo "careful" >&2
case $what in
  wait) cat >/dev/null; echo bye; exit 7 ;;
  deaf) exec sleep 1000 ;;
  *) exit "$what" ;;
esac
)";

class OpenNode {
 public:
  OpenNode(Launcher& launcher, const NodeTask& task, const std::string& line)
      : launcher_(launcher), task_(task), link_(launcher.open(task)) {
    write(link_.to, (line + "\n").data(), line.size() + 1);
  }
  ~OpenNode() {
    end_stdin();
    if (link_.from >= 0) close(link_.from);
    if (link_.pid > 0) kill(link_.pid, SIGKILL), waitpid(link_.pid, nullptr, 0);
  }
  OpenNode(const OpenNode&) = delete;
  OpenNode& operator=(const OpenNode&) = delete;

  void end_stdin() {
    if (link_.to >= 0) close(link_.to);
    link_.to = -1;
  }
  // Up to its end, or until it contains `sign`.
  std::string read_until(const std::string& sign = {}) {
    char buffer[4096];
    while (sign.empty() || text_.find(sign) == std::string::npos) {
      const ssize_t n = read(link_.from, buffer, sizeof buffer);
      if (n <= 0) break;
      text_.append(buffer, static_cast<size_t>(n));
    }
    return text_;
  }
  int exit_code() {
    int status = 0;
    waitpid(link_.pid, &status, 0);
    link_.pid = 0;
    return code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  std::string explanation() { return launcher_.explain(task_, code_); }
  pid_t pid() const { return link_.pid; }

 private:
  Launcher& launcher_;
  NodeTask task_;
  AgentLink link_;
  std::string text_;
  int code_ = 0;
};

inline void expect_the_end_of_stdin_arrives(Launcher& launcher, const Job& job) {
  launcher.prepare(job);
  OpenNode node(launcher, job.nodes[0], "wait");
  node.read_until("got wait\n");
  node.end_stdin();
  EXPECT_EQ(node.read_until(), "agent agent - got wait\nbye\n");
  EXPECT_EQ(node.exit_code(), 7);
}

// What preparing the job is refused with; "" where it is not.
inline std::string refusal(Launcher& launcher, const Job& job) {
  try {
    launcher.prepare(job);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace flagscale::launch
