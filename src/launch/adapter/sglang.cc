// SGLang's own server: one process a host, which meet at the first.

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/log.h"
#include "launch/adapter/args_mapping.h"
#include "launch/adapter/serve_entry.h"
#include "launch/flags.h"

namespace flagscale::launch {
namespace sglang {
namespace {

using config::Entry;
using config::Node;
using config::NodePtr;

// vLLM's words beside FlagScale's table for which SGLang has another one, or none: it would stop at them.
const std::map<std::string, std::string> kOthers{{"gpu_memory_utilization", "mem_fraction_static"},
                                                 {"enforce_eager", "disable_cuda_graph"},
                                                 {"no_enable_prefix_caching", "disable_radix_cache"},
                                                 {"enable_prefix_caching", ""},
                                                 {"enable_chunked_prefill", ""},
                                                 {"compilation_config", ""},
                                                 {"limit_mm_per_prompt", ""},
                                                 {"max_num_batched_tokens", ""},
                                                 {"block_size", ""},
                                                 {"swap_space", ""}};

void put_others(const Node& from, Node& into) {
  for (const Entry& one : from.entries) {
    const auto it = kOthers.find(one.key.text);
    const std::string name = it == kOthers.end() ? one.key.text : it->second;
    if (name.empty())
      info("engine argument {} says nothing to SGLang", one.key.text);
    else
      into.set({name}, one.value->copy());
  }
}

void put(const Node& from, Node& into) {
  for (const Entry& one : from.entries) {
    std::string key = one.key.text;
    std::replace(key.begin(), key.end(), '-', '_');
    into.set({key}, one.value->copy());
  }
}

// experiment.node_args.<host>.engine_args: what one host has otherwise. FlagScale leaves the first host out.
NodePtr node_arguments(const Experiment& e, const std::string& host) {
  const NodePtr node = e.map("experiment.node_args")->find({host});
  const NodePtr arguments = node && node->kind == config::Kind::kMap ? node->find({"engine_args"}) : nullptr;
  return arguments && arguments->kind == config::Kind::kMap ? arguments : Node::map();
}

std::vector<std::string> command_of(const Experiment& e, const ServeEntry& entry, const Placement& placement,
                                    const Place& place) {
  const NodePtr common = Node::map(), all = Node::map();
  put(*entry.arguments, *common);
  if (place.rank > 0) put(*node_arguments(e, place.host.name), *common);
  put_others(*translated(*common, Dialect::kSglang), *all);
  put(*entry.of("sglang"), *all);
  const std::string model = python_str(*all->find({"model_path"}));
  for (const char* key : {"model", "model_path", "node_rank", "nnodes", "dist_init_addr"}) all->erase({key});
  std::vector<std::string> argv{"python", "-m", "sglang.launch_server", "--model-path", model};
  for (std::string& flag : flags_of(*all, {.nested = Nested::kJson})) argv.push_back(std::move(flag));
  for (const std::string& word :
       {std::string("--node-rank"), std::to_string(place.rank), std::string("--nnodes"),
        std::to_string(placement.nodes), std::string("--dist-init-addr"),
        fmt::format("{}:{}", placement.master == "localhost" ? "127.0.0.1" : placement.master,
                    placement.port)})
    argv.push_back(word);
  return argv;
}

void fill(const Experiment& e, const Placement& placement, Job& job) {
  const ServeEntry entry = engine_entry(e, placement);
  job.port = entry.port;
  job.meeting_port = given_port(e);
  for (const Place& place : placement.places) {
    NodeTask task = node_task(e, place, job, "", {});
    task.command.argv = command_of(e, entry, placement, place);
    job.nodes.push_back(std::move(task));
  }
}

const Registration<Adapter> kSglang{"sglang", {"SGLang's own server", {"serve"}, &fill}};

}  // namespace
}  // namespace sglang
}  // namespace flagscale::launch
