#pragma once
// What a launcher orders and an agent reports, as JSON in frames (frames.h).

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "launch/agent/process.h"
#include "launch/job.h"

namespace flagscale::launch {

struct Order {
  enum class Kind { kStart, kStop, kStacks, kTick };
  Kind kind = Kind::kTick;
  int attempt = 0;  // counts the starts: reports of an earlier one may still be on their way

  // kStart; again after kGone, to start anew.
  NodeTask task = {};
  std::vector<std::filesystem::path> folders = {};  // made, and
  std::vector<JobFile> files = {};                  // written, before anything starts
  std::filesystem::path pid_file = {};  // <log>/pids/host_<rank>_<host>.pid, there while the command runs
  std::string before_start = {}, after_stop = {};
  bool apart = false;      // stderr apart from stdout
  double lost_after = 10;  // s without a word from the launcher after which the agent ends its tree; 0: never

  // kStop: SIGTERM, and SIGKILL once `grace` seconds have passed.
  double grace = 0;
  bool by_user = false;  // then after_stop runs at the end
};

struct Report {
  enum class Kind {
    kReady,    // the agent is there: its process, host, boot
    kStarted,  // the command's process, and its control group
    kRefused,  // it could not be started: text says why
    kExited,   // the command ended: status. What it left running is being ended
    kGone,     // nothing of the tree runs any more; text names what could not be killed
    kBeat,     // a heartbeat: text is its source; phase, iteration, metrics
    kStacks,   // text
    kTick,
  };
  Kind kind = Kind::kTick;
  int attempt = 0;  // of the order that it is about
  ProcessId process = {};
  std::string host = {}, boot = {}, cgroup = {}, text = {}, phase = {};
  int64_t iteration = 0;
  std::map<std::string, double> metrics = {};  // as the process names them; they may be NaN
  ExitStatus status = {};
};

// Throw Error{kInvalidArgument} for an argument that is not UTF-8, Error{kCorrupt} for what is no message.
std::string to_json(const Order& order);
std::string to_json(const Report& report);
Order read_order(std::string_view json);
Report read_report(std::string_view json);

}  // namespace flagscale::launch
