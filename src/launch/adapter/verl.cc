// verl: reinforcement learning over Ray.

#include <fmt/format.h>

#include "base/error.h"
#include "launch/adapter/ray.h"
#include "launch/flags.h"

namespace flagscale::launch {
namespace verl {
namespace {

// Over several hosts the first has Ray's head and verl's driver, as a process of its own: its exit code is
// the job's. (FlagScale submits it with --no-wait, and so never learns how it ended.)
void fill(const Experiment& e, const Placement& placement, Job& job) {
  const std::string module = e.text("experiment.task.entrypoint", "verl.trainer.main_ppo");
  const config::NodePtr rl = e.map("rl");
  if (rl->entries.empty()) fail(ErrorKind::kConfig, "the configuration has no `rl`: nothing to do");
  const auto ray_port = static_cast<int>(e.number("experiment.runner.ray_port", 6379, 1));
  const int64_t dashboard = e.number("experiment.runner.ray_dashboard_port", 8265, 1);
  for (const Place& place : placement.places) {
    NodeTask task = node_task(e, place, job, "", {"third_party/verl", ""});
    if (place.rank > 0) {
      join_ray(placement, place, ray_port, task, job);
    } else {
      if (placement.nodes > 1) {
        task.prepare.push_back(task.command);
        task.prepare[0].argv = ray_head(place, ray_port);
        if (e.flag("experiment.runner.ray_include_dashboard", true))
          for (const std::string& word :
               {std::string("--dashboard-host=0.0.0.0"), fmt::format("--dashboard-port={}", dashboard)})
            task.prepare[0].argv.push_back(word);
        task.command.env.emplace("RAY_ADDRESS", fmt::format("{}:{}", placement.master, ray_port));
      }
      task.command.argv = {"python3", "-m", module};
      for (std::string& word : overrides_of(*rl)) task.command.argv.push_back(std::move(word));
    }
    job.nodes.push_back(std::move(task));
  }
}

const Registration<Adapter> kVerl{"verl", {"verl's reinforcement learning", {"rl"}, &fill}};

}  // namespace
}  // namespace verl
}  // namespace flagscale::launch
