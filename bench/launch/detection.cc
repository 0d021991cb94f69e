// bench_launch [KILLS]
//
// A rank is killed by SIGKILL, KILLS times. Prints how long it takes until its launcher knows, and until the
// rank runs again on the launcher's order. The promise is 100 ms for the first.
#include <fmt/core.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <vector>

#include "base/temporary_folder_test_support.h"
#include "launch/run/rank_link.h"

using namespace flagscale;
using namespace flagscale::launch;

namespace {

using Clock = std::chrono::steady_clock;

Report wait_for(RankLink& link, Report::Kind kind) {
  for (;;) {
    for (Frame frame; link.next(frame);)
      if (frame.kind == FrameKind::kMessage)
        if (Report report = read_report(frame.bytes); report.kind == kind) return report;
    pollfd file{link.readable(), POLLIN, 0};
    poll(&file, 1, -1);
    if (!link.receive()) std::exit(1);
  }
}

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

void print(const char* what, std::vector<double>& times) {
  std::sort(times.begin(), times.end());
  fmt::print("{:<24} median {:6.2f} ms   99 % {:6.2f} ms   longest {:6.2f} ms\n", what,
             times[times.size() / 2], times[times.size() * 99 / 100], times.back());
}

}  // namespace

int main(int argc, char** argv) {
  const int kills = argc > 1 ? std::atoi(argv[1]) : 200;
  TemporaryFolder folder;
  Order start{.kind = Order::Kind::kStart};
  start.task.command.argv = {"sleep", "1000"};
  start.task.output = folder.path + "/output";
  RankLink link(open_local_link());
  std::vector<double> known, again;
  link.order(start);
  Report running = wait_for(link, Report::Kind::kStarted);
  for (int i = 0; i < kills; ++i) {
    const auto killed = Clock::now();
    send_signal(running.process, SIGKILL);
    wait_for(link, Report::Kind::kExited);
    known.push_back(milliseconds_since(killed));
    wait_for(link, Report::Kind::kGone);
    link.order(start);
    running = wait_for(link, Report::Kind::kStarted);
    again.push_back(milliseconds_since(killed));
  }
  fmt::print("{} ranks killed by SIGKILL\n", kills);
  print("known to the launcher", known);
  print("running again", again);
}
