#pragma once
// Being started by someone else's launcher: which of how many copies this process is, from the variables that
// torchrun, Open MPI, Slurm, Kubernetes' LeaderWorkerSet and indexed jobs, and FlagScale's cloud runner
// (AIRS_*) set.

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace flagscale::launch {

struct RankInEnvironment {
  std::string launcher;  // "torchrun", "Open MPI", "Slurm", "LeaderWorkerSet", "Kubernetes", "AIRS"
  int rank = 0;
  int world_size = 1;            // copies that were started
  int local_rank = 0;            // on this machine
  int local_size = 0;            // 0: not said
  bool whole_host = false;       // one copy a host was started, whatever devices the host has
  int devices = 0;               // of this host, where the launcher says so; 0: not said
  std::string master_addr = {};  // "" and 0: not said
  int master_port = 0;
  std::vector<std::string> hosts = {};  // in order, where the launcher says them
};

using Environment = std::function<const char*(const char* name)>;  // null: not set

// Empty when nobody set any of theirs. The innermost launcher counts where one runs under another (torchrun
// under Slurm). Throws Error{kConfig} naming the variables and the fix where some of a launcher's are set and
// some are not, where they are no numbers, or where they contradict one another.
std::optional<RankInEnvironment> rank_from_environment(const Environment& environment = ::getenv);

}  // namespace flagscale::launch
