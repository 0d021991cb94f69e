#pragma once
// From a composed configuration to a trained model: what `train` and `run` share.

#include <functional>
#include <string>

#include "config/compose.h"
#include "device/device.h"

namespace flagscale {

struct TrainingRequest {
  config::ComposeRequest configuration;
  std::string init_from;  // a Hugging Face folder or GGUF whose weights and shape to start from; empty: the
                          // configuration's
  std::string action;     // run, dryrun or test; empty: the configuration's
  DeviceKind device = DeviceKind::kCpu;
  bool json = false;            // the result as one JSON object, log lines to stderr
  std::function<void()> begin;  // called once it fits, before anything is written
};

// A value of the configuration as Python prints it; `otherwise` where there is none.
std::string text_at(const config::Composed& composed, const std::string& path, const std::string& otherwise);

// "conf/train.yaml:12: action" for an error; the path alone where its origin is not known.
std::string place_at(const config::Composed& composed, const std::string& path);

// Throws Error where it is none of FlagScale's actions, or auto_tune. `place`: where it was given.
void check_action(const std::string& action, const std::string& place);

// run, dryrun or test: `action` where it is not empty, else the configuration's. Throws Error{kUnsupported}
// for another one, and for a task (experiment.task.type) that is no training.
std::string training_action(const config::Composed& composed, const std::string& action = {});

// Composes and plans it, in silence and without data. Throws Error as run_training() would; Error{kResource}
// when this machine has not the memory.
void check_training(const TrainingRequest& request);

// Throws Error; Error{kInterrupted} after a clean stop. One that this engine cannot do says what can
// (ways_on.h).
void run_training(const TrainingRequest& request);
void run_training(const TrainingRequest& request, const config::Composed& composed);

}  // namespace flagscale
