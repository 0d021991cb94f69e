#include "launch/launcher/piped_launcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>

#include "base/check.h"
#include "base/error.h"

namespace flagscale::launch {

namespace {
using Clock = std::chrono::steady_clock;
constexpr size_t kKeptLines = 20;
constexpr std::chrono::milliseconds kTermTime{1000};  // between SIGTERM and SIGKILL

std::chrono::milliseconds until(Clock::time_point deadline) {
  return std::max(std::chrono::milliseconds(0),
                  std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()));
}
}  // namespace

std::string name_of(const NodeTask& task) {
  return task.host.name == "localhost" ? fmt::format("rank {}", task.rank)
                                       : fmt::format("host {} (rank {})", task.host.name, task.rank);
}

void PipedLauncher::start(const Job& job, const Agent& agent) {
  FLAGSCALE_CHECK(nodes_.empty());
  agent_ = agent;
  prepare(job);
  try {
    for (const NodeTask& task : job.nodes) {
      nodes_.push_back({task, Child(command(task, agent.words)), {}, false});
      nodes_.back().child.write(agent.input(task) + "\n");
    }
  } catch (...) {
    nodes_.clear();
    throw;
  }
}

void PipedLauncher::pump(std::chrono::milliseconds time) {
  std::vector<Child*> children;
  for (Node& node : nodes_) children.push_back(&node.child);
  poll_children(children, time);
  for (Node& node : nodes_) {
    for (const std::string& line : node.child.lines_out())
      if (agent_.line) agent_.line(node.task.rank, line, false);
    for (const std::string& line : node.child.lines_err()) {
      if (agent_.line) agent_.line(node.task.rank, line, true);
      node.err.push_back(line);
      if (node.err.size() > kKeptLines) node.err.pop_front();
    }
  }
}

bool PipedLauncher::running() const {
  return std::any_of(nodes_.begin(), nodes_.end(), [](const Node& node) { return !node.child.ended(); });
}

std::vector<NodeEnd> PipedLauncher::take_ends() {
  std::vector<NodeEnd> ends;
  for (Node& node : nodes_) {
    if (node.reported || !node.child.ended()) continue;
    node.reported = true;
    const int code = node.child.exit_code();
    ends.push_back({node.task.rank, code,
                    code == 0 ? "" : explain(node.task, code, {node.err.begin(), node.err.end()})});
  }
  return ends;
}

std::vector<NodeEnd> PipedLauncher::wait(std::chrono::milliseconds time) {
  const auto deadline = Clock::now() + time;
  std::vector<NodeEnd> ends = take_ends();
  while (ends.empty() && running()) {
    pump(until(deadline));
    ends = take_ends();
    if (Clock::now() >= deadline) break;
  }
  return ends;
}

void PipedLauncher::stop(std::chrono::milliseconds grace) {
  for (Node& node : nodes_) node.child.close_stdin();
  for (const auto& [time, signal] : {std::pair{grace, SIGTERM}, std::pair{kTermTime, SIGKILL}}) {
    const auto deadline = Clock::now() + time;
    while (running() && Clock::now() < deadline) pump(until(deadline));
    for (Node& node : nodes_) node.child.signal(signal);
  }
  while (running()) pump(kTermTime);
}

}  // namespace flagscale::launch
