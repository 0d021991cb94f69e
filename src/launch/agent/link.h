#pragma once
// A launcher's end of the connection to one agent. How an agent comes to its host is a launcher's business:
// here by a fork, elsewhere by ssh and the like, which run `flagscale agent` and are its stdin and stdout.

#include <functional>

#include "launch/job.h"

namespace flagscale::launch {

struct AgentLink {
  int pid = 0;             // the child of this process that is the agent, or the way to it (ssh)
  int to = -1, from = -1;  // close-on-exec; closed by whoever opened the link
  // Its end is always noticed, so silence means nothing: either side may be stopped (Ctrl-Z) for a while.
  bool local = false;
};

// Throws Error where no agent can be started for this rank.
using OpenLink = std::function<AgentLink(const NodeTask& task)>;

// An agent on this machine: a child without exec, so it starts in a millisecond. `keep` stays open in it, all
// other files are closed: a lock that lasts as long as anything of the job runs. The calling process has one
// thread.
AgentLink open_local_link(int keep = -1);

}  // namespace flagscale::launch
