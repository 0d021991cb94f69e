#include "launch/launcher/rank_from_environment.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <set>
#include <sstream>

#include "base/error.h"
#include "launch/launcher/node_list.h"
#include "launch/launcher/own_names.h"

namespace flagscale::launch {

namespace {

constexpr int kMostCopies = 1 << 24;

// The variables of one launcher, as they are asked for.
class Variables {
 public:
  Variables(const Environment& environment, std::string launcher)
      : environment_(environment), launcher_(std::move(launcher)) {}

  std::optional<std::string> text(const char* name) const {
    const char* value = environment_(name);
    return value && *value ? std::optional<std::string>(value) : std::nullopt;
  }

  std::optional<int> number(const char* name, int most = kMostCopies) const {
    const auto value = text(name);
    if (!value) return std::nullopt;
    int result = 0;
    const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), result);
    if (error != std::errc() || end != value->data() + value->size() || result < 0 || result > most)
      fail(ErrorKind::kConfig, "{}={}: {}'s variable is a number from 0 to {}", name, *value, launcher_,
           most);
    return result;
  }

  // All of these are set, or none; names those that are missing.
  bool all(const std::vector<const char*>& names) const {
    std::vector<std::string> set, missing;
    for (const char* name : names) (text(name) ? set : missing).emplace_back(name);
    if (set.empty()) return false;
    if (!missing.empty())
      fail(ErrorKind::kConfig,
           "{} set, but not {}: {} sets them together; set all of them, or unset {} to start without a "
           "launcher",
           fmt::join(set, ", "), fmt::join(missing, ", "), launcher_, fmt::join(set, " "));
    return true;
  }

  void below(const char* small, int value, const char* large, int limit) const {
    if (value >= limit)
      fail(ErrorKind::kConfig, "{}={} and {}={} contradict one another: ranks are counted from 0", small,
           value, large, limit);
  }

 private:
  const Environment& environment_;
  std::string launcher_;
};

void read_master(const Variables& variables, RankInEnvironment& result) {
  if (const auto address = variables.text("MASTER_ADDR")) result.master_addr = *address;
  if (const auto port = variables.number("MASTER_PORT", 65535)) result.master_port = *port;
}

std::optional<RankInEnvironment> from_torchrun(const Environment& environment) {
  const Variables variables(environment, "torchrun");
  // MASTER_ADDR and MASTER_PORT alone are what scripts export for what they start.
  if (!variables.text("RANK") && !variables.text("LOCAL_RANK")) return std::nullopt;
  variables.all({"RANK", "WORLD_SIZE"});
  RankInEnvironment result{"torchrun"};
  result.rank = *variables.number("RANK");
  result.world_size = *variables.number("WORLD_SIZE");
  variables.below("RANK", result.rank, "WORLD_SIZE", result.world_size);
  // Where several were started, a rank that took device 0 for want of LOCAL_RANK would share it.
  if (result.world_size > 1)
    variables.all({"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"});
  result.local_rank = variables.number("LOCAL_RANK").value_or(0);
  result.local_size = variables.number("LOCAL_WORLD_SIZE").value_or(0);
  variables.below("LOCAL_RANK", result.local_rank, "WORLD_SIZE", result.world_size);
  if (result.local_size > 0)
    variables.below("LOCAL_RANK", result.local_rank, "LOCAL_WORLD_SIZE", result.local_size);
  read_master(variables, result);
  return result;
}

std::optional<RankInEnvironment> from_open_mpi(const Environment& environment) {
  const Variables variables(environment, "Open MPI");
  if (!variables.all({"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                      "OMPI_COMM_WORLD_LOCAL_SIZE"}))
    return std::nullopt;
  RankInEnvironment result{"Open MPI"};
  result.rank = *variables.number("OMPI_COMM_WORLD_RANK");
  result.world_size = *variables.number("OMPI_COMM_WORLD_SIZE");
  result.local_rank = *variables.number("OMPI_COMM_WORLD_LOCAL_RANK");
  result.local_size = *variables.number("OMPI_COMM_WORLD_LOCAL_SIZE");
  variables.below("OMPI_COMM_WORLD_RANK", result.rank, "OMPI_COMM_WORLD_SIZE", result.world_size);
  variables.below("OMPI_COMM_WORLD_LOCAL_RANK", result.local_rank, "OMPI_COMM_WORLD_LOCAL_SIZE",
                  result.local_size);
  read_master(variables, result);
  return result;
}

// A batch script and an interactive shell have SLURM_PROCID too, but are no task of a step: only srun's tasks
// are.
bool is_task_of_a_step(const Variables& variables) {
  constexpr std::string_view kSpecialSteps[] = {"4294967290", "4294967291",
                                                "4294967292"};  // interactive, batch, extern
  const auto step = variables.text("SLURM_STEP_ID");
  return step &&
         std::find(std::begin(kSpecialSteps), std::end(kSpecialSteps), *step) == std::end(kSpecialSteps);
}

std::optional<RankInEnvironment> from_slurm(const Environment& environment) {
  const Variables variables(environment, "Slurm");
  if (!is_task_of_a_step(variables)) return std::nullopt;
  const char* size = variables.text("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
  if (!variables.all({"SLURM_PROCID", size, "SLURM_LOCALID"})) return std::nullopt;
  RankInEnvironment result{"Slurm"};
  result.rank = *variables.number("SLURM_PROCID");
  result.world_size = *variables.number(size);
  result.local_rank = *variables.number("SLURM_LOCALID");
  variables.below("SLURM_PROCID", result.rank, size, result.world_size);
  for (const char* name : {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"})
    if (const auto list = variables.text(name); list && result.hosts.empty())
      result.hosts = expand_node_list(*list);
  const auto counts = variables.text("SLURM_STEP_TASKS_PER_NODE");
  if (const auto node = variables.number("SLURM_NODEID"); node && counts) {
    const std::vector<int> tasks = expand_counts(*counts);
    if (static_cast<size_t>(*node) < tasks.size()) result.local_size = tasks[static_cast<size_t>(*node)];
  }
  result.devices = variables.number("SLURM_GPUS_ON_NODE").value_or(0);
  result.whole_host = result.hosts.size() == static_cast<size_t>(result.world_size);
  read_master(variables, result);
  if (result.master_addr.empty() && !result.hosts.empty()) result.master_addr = result.hosts[0];
  return result;
}

std::optional<RankInEnvironment> from_lws(const Environment& environment) {
  const Variables variables(environment, "LeaderWorkerSet");
  if (!variables.all({"LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX"})) return std::nullopt;
  RankInEnvironment result{"LeaderWorkerSet"};
  result.rank = *variables.number("LWS_WORKER_INDEX");
  result.world_size = *variables.number("LWS_GROUP_SIZE");
  variables.below("LWS_WORKER_INDEX", result.rank, "LWS_GROUP_SIZE", result.world_size);
  result.whole_host = true;
  result.devices =
      Variables(environment, "FlagScale's cloud runner").number("AIRS_ACCELERATOR_NUM").value_or(0);
  read_master(variables, result);
  result.master_addr = *variables.text("LWS_LEADER_ADDRESS");
  return result;
}

std::optional<RankInEnvironment> from_indexed_job(const Environment& environment) {
  const Variables variables(environment, "a manifest of this program");
  if (!variables.all({"FLAGSCALE_NODE_RANK", "FLAGSCALE_NODES"})) return std::nullopt;
  RankInEnvironment result{"Kubernetes"};
  result.rank = *variables.number("FLAGSCALE_NODE_RANK");
  result.world_size = *variables.number("FLAGSCALE_NODES");
  variables.below("FLAGSCALE_NODE_RANK", result.rank, "FLAGSCALE_NODES", result.world_size);
  result.whole_host = true;
  read_master(variables, result);
  return result;
}

std::vector<std::string> bare_hosts(const std::string& path) {
  std::ifstream file(path);
  if (!file) fail(ErrorKind::kNotFound, "AIRS_HOSTFILE_PATH is {}, which cannot be read", path);
  std::vector<std::string> hosts;
  for (std::string line, host; std::getline(file, line);)
    if (std::istringstream words(line); words >> host && host[0] != '#') hosts.push_back(host);
  return hosts;
}

std::optional<RankInEnvironment> from_airs(const Environment& environment) {
  const Variables variables(environment, "FlagScale's cloud runner");
  if (!variables.text("AIRS_SWITCH")) return std::nullopt;
  RankInEnvironment result{"AIRS"};
  result.whole_host = true;
  result.world_size = variables.number("AIRS_SIZE").value_or(1);
  // An Iluvatar BI card is two devices.
  const bool twins =
      variables.text("AIRS_ACCELERATOR_MODEL").value_or("").find("luvatar_BI") != std::string::npos;
  result.devices = variables.number("AIRS_ACCELERATOR_NUM")
                       .value_or(variables.number("AIRS_ACCELERATOR_COUNT").value_or(0) * (twins ? 2 : 1));
  read_master(variables, result);
  if (result.world_size <= 1) return result;
  variables.all({"AIRS_SIZE", "AIRS_HOSTFILE_PATH"});
  result.hosts = bare_hosts(*variables.text("AIRS_HOSTFILE_PATH"));
  if (result.hosts.size() < static_cast<size_t>(result.world_size))
    fail(ErrorKind::kConfig, "AIRS_SIZE={}, but the file of AIRS_HOSTFILE_PATH has {} hosts",
         result.world_size, result.hosts.size());
  result.hosts.resize(static_cast<size_t>(result.world_size));
  const std::set<std::string> own = own_names();
  const auto here = std::find_if(result.hosts.begin(), result.hosts.end(),
                                 [&](const std::string& host) { return own.contains(host); });
  if (here == result.hosts.end())
    fail(ErrorKind::kConfig, "none of the hosts in the file of AIRS_HOSTFILE_PATH ({}) is this machine ({})",
         fmt::join(result.hosts, ", "), fmt::join(own, ", "));
  result.rank = static_cast<int>(here - result.hosts.begin());
  if (result.master_addr.empty()) result.master_addr = result.hosts[0];
  return result;
}

}  // namespace

std::optional<RankInEnvironment> rank_from_environment(const Environment& environment) {
  // From the inside out: torchrun's workers also see what Slurm or Kubernetes told torchrun, and so on.
  for (const auto& read : {from_torchrun, from_open_mpi, from_slurm, from_lws, from_indexed_job, from_airs})
    if (auto result = read(environment)) return result;
  return std::nullopt;
}

}  // namespace flagscale::launch
