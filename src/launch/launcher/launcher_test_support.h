#pragma once
// For tests: a launcher with a job, what its nodes said and how they ended.

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <fstream>
#include <map>
#include <memory>
#include <string>
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

// One node for each input; `hosts` as many names, or none for this machine. The input is in the node's
// command.
inline Job job_of(const std::vector<std::string>& inputs, const std::vector<std::string>& hosts = {}) {
  Job job;
  job.name = "test";
  for (size_t i = 0; i < inputs.size(); ++i)
    job.nodes.push_back(
        {static_cast<int>(i), {hosts.empty() ? "localhost" : hosts[i], 1, ""}, {{inputs[i]}, {}, {}}, {}});
  return job;
}

struct LauncherRun {
  LauncherRun(const std::string& name, const LauncherOptions& options, Job which)
      : job(std::move(which)), launcher(make_launcher(name, options)) {
    Agent agent;
    agent.input = [](const NodeTask& task) { return task.command.argv[0]; };
    agent.line = [this](int rank, std::string_view line, bool is_error) {
      (is_error ? err : out)[rank] += std::string(line) + "\n";
    };
    launcher->start(job, agent);
  }

  void until_ended(std::chrono::seconds most = std::chrono::seconds(60)) {
    const auto deadline = std::chrono::steady_clock::now() + most;
    while (ends.size() < job.nodes.size() && std::chrono::steady_clock::now() < deadline)
      for (NodeEnd& end : launcher->wait(std::chrono::milliseconds(200))) ends.push_back(std::move(end));
    EXPECT_EQ(ends.size(), job.nodes.size());
  }

  std::map<int, int> exit_codes() const {
    std::map<int, int> codes;
    for (const NodeEnd& end : ends) codes[end.rank] = end.exit_code;
    return codes;
  }

  std::string messages() const {
    std::string text;
    for (const NodeEnd& end : ends) text += end.message + "\n";
    return text;
  }

  Job job;
  std::map<int, std::string> out, err;
  std::vector<NodeEnd> ends;
  std::unique_ptr<Launcher> launcher;  // last, so that it goes first
};

inline pid_t child_of_this_process() {
  const std::string self = std::to_string(getpid());
  pid_t pid = 0;
  std::ifstream("/proc/self/task/" + self + "/children") >> pid;
  return pid;
}

}  // namespace flagscale::launch
