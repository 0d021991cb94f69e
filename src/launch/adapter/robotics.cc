// FlagScale's robot models: openpi's training script, and those that read flags as Megatron's do.

#include "base/error.h"
#include "launch/adapter/torchrun.h"
#include "launch/adapter/train_tree.h"
#include "launch/flags.h"

namespace flagscale::launch {
namespace robotics {
namespace {

const std::set<std::string> kLogs{"log_dir", "details_dir", "scripts_dir", "pids_dir"};
// Of FlagScale's own making: these scripts have outputs of their own.
const std::set<std::string> kPaths{"log_dir", "details_dir", "scripts_dir",     "pids_dir",
                                   "save",    "load",        "tensorboard_dir", "wandb_save_dir"};

// The data's name comes first, then the model's keys; nothing of `system`.
void fill_openpi(const Experiment& e, const Placement& placement, Job& job) {
  const config::NodePtr train = train_tree(e, job);
  const std::string name = e.text("train.data.config_name");
  if (name.empty())
    fail(ErrorKind::kConfig, "required value train.data.config_name is not set: the robot data to train on");
  std::vector<std::string> arguments{name};
  for (const std::string& flag : flags_of(*e.map("train.model"), {.without = kLogs}))
    arguments.push_back(flag);
  fill_torchrun(e, placement, *train, arguments, job);
}

void fill_pi0(const Experiment& e, const Placement& placement, Job& job) {
  const config::NodePtr train = train_tree(e, job);
  fill_torchrun(e, placement, *train, flags_of(*merged_sections(*train), {.without = kPaths}), job);
}

void fill_lerobot(const Experiment& e, const Placement& placement, Job& job) {
  const config::NodePtr train = train_tree(e, job);
  FlagStyle style{.dashes = false, .without = kPaths};
  style.without.insert("output_dir");
  fill_torchrun(e, placement, *train, flags_of(*merged_sections(*train), style), job);
}

const Registration<Adapter> kRobotics{"robotics", {"FlagScale's robotics training", {"train"}, &fill_openpi}};
const Registration<Adapter> kPi0{"pi0", {"FlagScale's pi0 training", {"train"}, &fill_pi0}};
const Registration<Adapter> kLerobot{"lerobot", {"LeRobot's training", {"train"}, &fill_lerobot}};

}  // namespace
}  // namespace robotics
}  // namespace flagscale::launch
