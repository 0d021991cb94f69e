#pragma once
// vLLM's server as a command: alone, and as the instances of a disaggregated service.

#include <string>
#include <vector>

#include "launch/adapter/serve_entry.h"

namespace flagscale::launch {

// An entry's arguments as vLLM takes them: what is for it alone, then what is for every engine, which wins as
// in FlagScale. Keys have underscores.
config::NodePtr vllm_arguments(const ServeEntry& entry);
std::vector<std::string> vllm_command(const config::NodePtr& arguments);

// experiment.runner.deploy.prefill_decode_disaggregation: prefill_num and decode_num instances of vLLM on the
// hosts' devices, first fit, each on one host; requests reach them through a router on the first host at
// `proxy`, which hands the keys and values of a prompt over. Appends them to job.nodes. Throws Error{kConfig}
// when they do not fit.
void add_disaggregated(const Experiment& experiment, const Placement& placement, const ServeEntry& entry,
                       int proxy, Job& job);

}  // namespace flagscale::launch
