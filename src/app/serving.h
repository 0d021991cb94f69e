#pragma once
// A model served in the foreground, or asked without a server: what `serve` and `run` share.

#include "config/compose.h"
#include "serve/service_config.h"

namespace flagscale {

// Returns when a signal has stopped the server in order. Throws Error before it is ready.
void serve_model(const serve::ServiceConfig& config);

// FlagScale's `inference` task: llm, generate.prompts and generate.sampling. Prints each answer as
// FlagScale's own script does, or as a JSON object a line. plan: reads and checks everything, and prints what
// would run.
void run_inference(const config::Composed& composed, bool plan, bool json);

}  // namespace flagscale
