#include "app/rank_tasks.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "train/keys/train_keys.h"

namespace flagscale {

namespace fs = std::filesystem;

namespace {

bool share_evenly(const train::BatchKeys& batch, int ranks) {
  const int64_t together = batch.micro_batch_size * ranks;
  const auto& rampup = batch.rampup_batch_size;
  return batch.global_batch_size.value_or(batch.micro_batch_size) % together == 0 &&
         (rampup.size() != 3 || (rampup[0] % together == 0 && rampup[1] % together == 0));
}

int processes_of(const launch::Placement& placement) {
  int count = 0;
  for (const launch::Place& place : placement.places) count += place.processes;
  return count;
}

// Every global batch stays as large as it is: what cannot have a like share of it has none.
void leave_out(const train::BatchKeys& batch, launch::Placement& placement) {
  const int there = processes_of(placement);
  int ranks = there;
  while (ranks > 1 && !share_evenly(batch, ranks)) --ranks;
  if (ranks == there) return;
  info("{} of {} ranks train: more would not share the global batch of {} in micro-batches of {} evenly",
       ranks, there, batch.global_batch_size.value_or(batch.micro_batch_size), batch.micro_batch_size);
  for (launch::Place& place : placement.places) {
    place.processes = std::min(place.processes, ranks);
    ranks -= place.processes;
  }
  std::erase_if(placement.places, [](const launch::Place& place) { return place.processes == 0; });
}

std::vector<launch::NodeTask> one_a_host(const std::vector<launch::Host>& hosts) {
  std::vector<launch::NodeTask> nodes;
  for (const launch::Host& host : hosts) {
    launch::NodeTask& node = nodes.emplace_back();
    node.rank = static_cast<int>(nodes.size()) - 1;
    node.host = host;
  }
  return nodes;
}

}  // namespace

std::vector<launch::NodeTask> rank_tasks(const launch::Placement& placement,
                                         const std::vector<std::string>& words, const fs::path& log) {
  int world = processes_of(placement), first = 0;
  if (placement.cloud) {  // this node's part; nodes are alike
    first = placement.places[0].rank * world;
    world *= placement.nodes;
  }
  std::vector<launch::NodeTask> nodes;
  for (const launch::Place& place : placement.places)
    for (int local = 0; local < place.processes; ++local) {
      launch::NodeTask& node = nodes.emplace_back();
      node.rank = first + static_cast<int>(nodes.size()) - 1;
      node.host = place.host;
      node.command.argv = words;
      node.command.env = place.env;
      node.command.env.insert({{kIsRank, "1"},
                               {"RANK", std::to_string(node.rank)},
                               {"WORLD_SIZE", std::to_string(world)},
                               {"LOCAL_RANK", std::to_string(local)},
                               {"LOCAL_WORLD_SIZE", std::to_string(place.processes)},
                               {"MASTER_ADDR", placement.master},
                               {"MASTER_PORT", std::to_string(placement.port)}});
      node.command.directory = fs::current_path();
      node.output = log / fmt::format("host_{}_{}.output", node.rank, place.host.name);
    }
  return nodes;
}

std::optional<launch::Elastic> elastic_ranks(const config::Composed& composed,
                                             const launch::Experiment& experiment,
                                             const std::vector<std::string>& words, const fs::path& log) {
  const auto hosts = launch::elastic_hosts(experiment);
  if (!hosts) return {};
  if (const std::string type = experiment.text("experiment.runner.type", "ssh"); type == "openmpi")
    fail(ErrorKind::kUnsupported,
         "{} is '{}', and experiment.runner.type {} reaches all hosts or none: use ssh",
         experiment.place("experiment.runner.nnodes"), experiment.text("experiment.runner.nnodes"), type);
  launch::Elastic elastic;
  elastic.hosts = hosts->list, elastic.least = hosts->least, elastic.most = hosts->most;
  elastic.wait = static_cast<double>(experiment.number("experiment.runner.elastic_wait", 30));
  const train::BatchKeys batch = train::read_train_config(composed).config.batch;
  elastic.ranks = [&experiment, batch, words, log](const std::vector<launch::Host>& there) {
    launch::Placement placement = launch::placement_on(experiment, there);
    leave_out(batch, placement);
    return rank_tasks(placement, words, log);
  };
  return elastic;
}

void reach_hosts(launch::Launcher& launcher, const launch::Job& job,
                 const std::optional<launch::Elastic>& elastic) {
  if (!elastic) return launcher.prepare(job);
  launch::Job hosts = job;
  hosts.nodes = one_a_host(elastic->hosts);
  try {
    return launcher.prepare(hosts);
  } catch (
      const Error&) {  // it stops at the first that fails: those that can be reached are found one by one
    int reached = 0;
    for (const launch::NodeTask& node : one_a_host(elastic->hosts)) try {
        hosts.nodes = {node};
        launcher.prepare(hosts);
        ++reached;
      } catch (const Error& error) {
        warn("{}", error.what());
      }
    if (reached < elastic->least) throw;
  }
}

}  // namespace flagscale
