#pragma once
// A composed configuration as a launch reads it: `experiment`, and the task's own section.

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>

#include "config/compose.h"
#include "config/node.h"

namespace flagscale::launch {

class Experiment {
 public:
  // experiment.deploy, where old files have it, becomes experiment.runner.deploy. folder: the configuration's
  // own, from which FlagScale's checkout is looked for. planning: nothing is started, so a value that this
  // machine does not know (an environment variable) keeps its text, with a warning.
  explicit Experiment(const config::Composed& composed, std::filesystem::path folder = {},
                      bool planning = false);

  // At a dotted path: the value, resolved throughout; null when absent or null. Each of these throws
  // Error{kConfig} naming file, line and key for a value that does not resolve or is of another kind.
  config::NodePtr value(const std::string& path) const;
  config::NodePtr map(const std::string& path) const;  // an empty one when absent
  std::string text(const std::string& path, const std::string& otherwise = {}) const;  // any scalar
  int64_t number(const std::string& path, int64_t otherwise, int64_t least = 0) const;
  bool flag(const std::string& path, bool otherwise = false) const;

  // "conf/train.yaml:12: train.model.lr" for an error; the path alone where its origin is not known.
  std::string place(const std::string& path) const;

  std::string task() const { return text("experiment.task.type", "train"); }
  std::filesystem::path directory() const;     // experiment.exp_dir, absolute
  std::filesystem::path hydra_folder() const;  // hydra.run.dir, absolute
  // Where FlagScale's scripts are: FLAGSCALE_ROOT, else the nearest folder above the configuration or above
  // this one that holds `script`, else this one.
  std::filesystem::path checkout(const std::string& script) const;

  const config::NodePtr& root() const { return root_; }
  const config::Node* hydra() const {
    return hydra_.get();
  }  // Hydra's own settings; null where none were composed
  bool planning() const { return planning_; }

 private:
  config::NodePtr root_, hydra_;
  std::filesystem::path folder_;
  bool planning_;
  mutable std::set<std::string> told_;
};

// A path that a configuration gives, relative to where the launcher was started.
std::filesystem::path absolute_path(const std::string& path);

}  // namespace flagscale::launch
