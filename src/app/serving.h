#pragma once
// A model served in the foreground, or asked without a server: what `serve` and `run` share.

#include <functional>
#include <string>

#include "config/compose.h"
#include "serve/service_config.h"

namespace flagscale {

// Returns when a signal has stopped the server in order. Throws Error before it is ready, Error{kDevice} when
// its GPU fails.
void serve_model(const serve::ServiceConfig& config);

std::string task_type(
    const config::Composed& composed);  // experiment.task.type; "train" where it is not given
// True for action=dryrun, which checks and plans; false for run. Throws Error{kUnsupported} for another one.
bool plans_only(const config::Composed& composed, const std::string& type);

// Reads and checks a `serve` or `inference` task as running it would, without a model.
void check_serving_task(const config::Composed& composed, const std::string& type);

// FlagScale's `inference` task: llm, generate.prompts and generate.sampling. Prints each answer as
// FlagScale's own script does, or as a JSON object a line. plan: reads and checks everything, and prints what
// would run. begin: called once the task is read, before the model is.
void run_inference(const config::Composed& composed, bool plan, bool json,
                   const std::function<void()>& begin);

}  // namespace flagscale
