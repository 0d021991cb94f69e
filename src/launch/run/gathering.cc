#include "launch/run/gathering.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <thread>
#include <utility>

#include "base/error.h"
#include "launch/agent/messages.h"

namespace flagscale::launch {

namespace {

constexpr std::chrono::seconds kTryAgain{1}, kToAnswer{5}, kToEnd{1};

}  // namespace

Gathering::Gathering(const RunOptions& options, const OpenLink& open_link)
    : options_(options), open_link_(open_link) {
  for (const Host& host : options.elastic->hosts) {
    Candidate& candidate = candidates_.emplace_back();
    candidate.task.rank = static_cast<int>(candidates_.size()) - 1;
    candidate.task.host = host;
  }
}

Gathering::~Gathering() {
  for (Candidate& candidate : candidates_) candidate.link.reset();
  const auto end = Clock::now() + kToEnd;
  for (Candidate& candidate : candidates_) {
    while (candidate.way > 0 && Clock::now() < end && waitpid(candidate.way, nullptr, WNOHANG) == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    if (candidate.way > 0 && kill(candidate.way, SIGKILL) == 0) waitpid(candidate.way, nullptr, 0);
  }
}

void Gathering::open(Candidate& candidate) const {
  try {
    const AgentLink link = open_link_(candidate.task);
    candidate.link = std::make_unique<RankLink>(link);
    candidate.way = link.pid;
  } catch (const Error& error) {
    drop(candidate, error.what());
  }
}

// Not there: tried again in a moment.
void Gathering::drop(Candidate& candidate, const std::string& why) const {
  candidate.link.reset();
  int status = 0;
  if (candidate.way > 0) {
    // Its pipe is closed, so it has ended or is about to; what holds on to it does not count.
    if (waitpid(candidate.way, &status, WNOHANG) == 0)
      kill(candidate.way, SIGKILL), waitpid(candidate.way, &status, 0);
    candidate.way = 0;
  }
  const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  const std::string explained = options_.explain_link ? options_.explain_link(candidate.task, code) : "";
  candidate.why = !explained.empty() ? explained : !why.empty() ? why : "its agent ended";
  candidate.ready = false, candidate.failed = true;
  candidate.again = Clock::now() + kTryAgain;
}

void Gathering::receive(Candidate& candidate) const {
  try {
    const bool open = candidate.link->receive();
    for (Frame frame; candidate.link->next(frame);)
      if (frame.kind == FrameKind::kMessage && read_report(frame.bytes).kind == Report::Kind::kReady)
        candidate.ready = true;
    if (!open) drop(candidate, candidate.link->why());
  } catch (const Error& error) {
    drop(candidate, error.what());
  }
}

void Gathering::add_files(std::vector<pollfd>& files) const {
  for (const Candidate& candidate : candidates_)
    if (candidate.link) files.push_back({candidate.link->readable(), POLLIN, 0});
}

void Gathering::turn() {
  for (Candidate& candidate : candidates_) {
    if (!candidate.link && Clock::now() >= candidate.again) open(candidate);
    if (candidate.link) receive(candidate);
  }
}

bool Gathering::over() const {
  const auto waited = Clock::now() - begun_;
  if (waited >= std::chrono::duration<double>(options_.elastic->wait)) return true;
  if (there().size() < static_cast<size_t>(options_.elastic->most)) return false;
  return waited >= kToAnswer || std::all_of(candidates_.begin(), candidates_.end(),
                                            [](const Candidate& c) { return c.ready || c.failed; });
}

std::vector<Host> Gathering::there() const {
  std::vector<Host> hosts;
  for (const Candidate& candidate : candidates_)
    if (candidate.ready && hosts.size() < static_cast<size_t>(options_.elastic->most))
      hosts.push_back(candidate.task.host);
  return hosts;
}

std::string Gathering::missing() const {
  std::string text;
  for (const Candidate& candidate : candidates_)
    if (!candidate.ready)
      text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", candidate.task.host.name, candidate.why);
  return text;
}

}  // namespace flagscale::launch
