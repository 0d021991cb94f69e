#pragma once
// Runs a job: starts an agent for each rank, follows them, restarts, stops, and keeps the record.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "launch/agent/link.h"
#include "launch/job.h"
#include "launch/record/run_record.h"
#include "launch/run/watch.h"

namespace flagscale::launch {

enum class OnHang { kReport, kRestart };

// A job whose hosts may be fewer, or others, at each start (nnodes: MIN:MAX).
struct Elastic {
  std::vector<Host> hosts;  // that may be used, the first ones rather
  int least = 1, most = 1;  // of them
  double wait = 30;         // s that a start waits for `most` of them to be there
  // The ranks on these hosts, numbered anew.
  std::function<std::vector<NodeTask>(const std::vector<Host>& hosts)> ranks;
};

struct RunOptions {
  bool detach = false;  // leave it running in the background once every rank has started
  PhaseLimits limits;
  OnHang on_hang = OnHang::kReport;
  double grace = 30;       // s between SIGTERM and SIGKILL when the job is stopped
  double lost_after = 10;  // s without a word from a host's agent
  std::optional<Elastic> elastic;
  RunOrigin origin;
  // Reaches the other hosts, in the process that follows the job (a detached one is not this one), and sets
  // the two below, which may own what they need. Empty: they are as they are.
  std::function<void(RunOptions& options)> reach;
  OpenLink open_link;  // empty: all ranks on this machine
  // Why a link has ended that should not have, from its child's exit code; "" where that says nothing.
  std::function<std::string(const NodeTask& task, int exit_code)> explain_link;
};

// Returns the job's exit code: 0 when every rank ended with 0, else that of the rank that failed first; 130
// after Ctrl-C, 143 after SIGTERM (`flagscale stop`); detached, 0 once it runs. Throws Error where the job
// could not begin: Error{kBusy} while another run of the experiment is there, Error{kResource} where its
// folders cannot be written, whatever reach and
// open_link throw; Error{kInterrupted}.
//
// SIGINT, SIGTERM and SIGHUP are this function's while it runs: the first asks every rank to end in order,
// the second kills.
int run_job(const Job& job, const RunOptions& options);

}  // namespace flagscale::launch
