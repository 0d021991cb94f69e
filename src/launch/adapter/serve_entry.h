#pragma once
// FlagScale's `serve` section: a list of entries, of which one has the arguments of an engine.

#include <string>

#include "launch/adapter.h"

namespace flagscale::launch {

// `serve`, resolved, with what experiment.runner says of it: cli_args.model_path and .engine_args (JSON, or a
// mapping), and the port: cli_args.port over deploy.port over the entry's own. In a cloud
// tensor_parallel_size and pipeline_parallel_size, where the entry says 1 or nothing, become the largest
// powers of two that a node's devices and the nodes have room for. Throws Error{kConfig}.
config::NodePtr serve_section(const Experiment& experiment, const Placement& placement);

struct ServeEntry {
  std::string engine;         // "" when the entry names none
  config::NodePtr arguments;  // engine_args: a mapping
  config::NodePtr specific;   // engine_args_specific: a mapping from engine to mapping
  int port = 8000;            // 0: an environment variable that is not set says it
  config::NodePtr of(const std::string& engine) const;  // what is for this engine alone; a mapping
};

// The entry that is served: the first with a serve_id and engine_args. Throws Error{kConfig} when there is
// none, or it names no model.
ServeEntry served_entry(const config::NodePtr& serve);

// That of the configuration, for an engine that is started itself. Throws Error{kUnsupported} too, for one
// whose entrypoint is a Python server of its own.
ServeEntry engine_entry(const Experiment& experiment, const Placement& placement);

}  // namespace flagscale::launch
