#include "app/ways_on.h"

#include <fmt/format.h>

#include "app/launched.h"
#include "base/log.h"
#include "launch/adapter.h"
#include "launch/placement.h"
#include "train/keys/train_keys.h"

namespace flagscale {
namespace {

using Overrides = std::vector<std::string>;

Overrides operator+(Overrides a, const Overrides& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// What takes less memory and trains the same, or nearly.
const std::vector<Overrides> kSavings{
    {},
    {"++train.model.micro_batch_size=1", "++train.system.recompute_granularity=full",
     "++train.system.recompute_method=uniform"},
    {"++train.model.micro_batch_size=1", "++train.system.recompute_granularity=full",
     "++train.system.recompute_method=uniform", "++train.model.optimizer.optimizer=adamw8bit"}};

// "overrides that fit here", or what comes closest to it and why it falls short.
std::string other_layout(const TrainingRequest& request, const Overrides& one_rank) {
  std::string short_of;
  for (const Overrides& saving : kSavings) {
    TrainingRequest other = request;
    other.configuration.overrides = request.configuration.overrides + one_rank + saving;
    const std::string text = fmt::format("{}", fmt::join(one_rank + saving, " "));
    try {
      check_training(other);
      return "overrides that train it in one process here: " + text;
    } catch (const Error& error) {
      if (!short_of.empty() && error.kind() != ErrorKind::kResource) break;
      const std::string what = error.what();
      short_of = "overrides for one process: " + text +
                 "\n    of which this is left: " + what.substr(0, what.find('\n'));
      if (error.kind() != ErrorKind::kResource) break;
    }
  }
  return short_of;
}

// The command that goes on, as it is typed; "" where no foreign engine is named.
std::string foreign_way(const config::Composed& composed, const TrainingRequest& request) {
  try {
    const std::string name = launch::adapter_name(launch::Experiment(composed), "yaml");
    const auto& c = request.configuration;
    return fmt::format("`flagscale run --config-path {} --config-name {} --engine yaml` starts {}", c.folder,
                       c.name, Registry<launch::Adapter>::instance().find(name)->what);
  } catch (const Error&) {
    return "";
  }
}

}  // namespace

void rethrow_with_ways_on(const Error& error, const config::Composed& composed,
                          const TrainingRequest& request) {
  std::string text = error.what();
  Overrides one_rank;
  try {
    one_rank = train::one_rank_overrides(composed);
  } catch (const Error&) {  // a value that does not resolve: told by `error`
  }
  if (const std::string way = foreign_way(composed, request); !way.empty())
    text += "\nAnother way: " + way + ".";
  if (!one_rank.empty()) text += "\nAnother way: " + other_layout(request, one_rank);
  throw Error(error.kind(), text);
}

void check_ranks(const config::Composed& composed) {
  const launch::Experiment experiment(composed);
  if (has_ranks(experiment)) return;
  const launch::Hosts hosts = launch::hosts_of(experiment);
  if (!hosts.fewer.empty()) warn("{}", hosts.fewer);
  if (hosts.list.size() > 1)
    fail(ErrorKind::kUnsupported,
         "{} names {} hosts: this engine takes another backend's layout on one; "
         "experiment.task.backend=native trains on all, experiment.runner.nnodes=1 or "
         "experiment.runner.hostfile=null "
         "takes this one",
         experiment.place("experiment.runner.hostfile"), hosts.list.size());
  const int64_t wanted = experiment.number("experiment.runner.nproc_per_node", 1, 1);
  if (wanted > 1)
    warn("{} is {}: one process trains here (experiment.task.backend=native: as many ranks)",
         experiment.place("experiment.runner.nproc_per_node"), wanted);
}

}  // namespace flagscale
