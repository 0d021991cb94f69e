// llama.cpp's server.

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/log.h"
#include "launch/adapter/args_mapping.h"
#include "launch/adapter/serve_entry.h"
#include "launch/flags.h"

namespace flagscale::launch {
namespace llama_cpp {
namespace {

using config::NodePtr;

// vLLM's words for which llama-server has neither the same nor another: it would stop at them.
const std::set<std::string> kVllmOnly{"tensor_parallel_size",
                                      "pipeline_parallel_size",
                                      "data_parallel_size",
                                      "enable_expert_parallel",
                                      "gpu_memory_utilization",
                                      "dtype",
                                      "quantization",
                                      "load_format",
                                      "trust_remote_code",
                                      "enforce_eager",
                                      "enable_chunked_prefill",
                                      "enable_prefix_caching",
                                      "no_enable_chunked_prefill",
                                      "no_enable_prefix_caching",
                                      "swap_space",
                                      "cpu_offload_gb",
                                      "block_size",
                                      "max_num_batched_tokens",
                                      "limit_mm_per_prompt",
                                      "compilation_config",
                                      "distributed_executor_backend",
                                      "disable_custom_all_reduce",
                                      "disable_log_requests",
                                      "disable_log_stats",
                                      "tokenizer",
                                      "tokenizer_mode",
                                      "generation_config",
                                      "hf_overrides",
                                      "enable_auto_tool_choice",
                                      "tool_call_parser"};

// LLAMA_SERVER, the build in FlagScale's checkout, or the one in PATH.
std::string program(const Experiment& e) {
  if (const char* given = std::getenv("LLAMA_SERVER"); given && *given) return given;
  const std::string built = "third_party/llama.cpp/build/bin/llama-server";
  const std::filesystem::path path = e.checkout(built) / built;
  std::error_code none;
  return std::filesystem::exists(path, none) ? path.string() : "llama-server";
}

void fill(const Experiment& e, const Placement& placement, Job& job) {
  if (placement.nodes > 1)
    fail(ErrorKind::kUnsupported,
         "llama.cpp serves on one host, and {} are given: experiment.runner.nnodes=1", placement.nodes);
  const ServeEntry entry = engine_entry(e, placement);
  const NodePtr common = translated(*entry.arguments, Dialect::kLlamaCpp), own = entry.of("llama_cpp");
  for (const std::string& key : kVllmOnly)
    if (common->erase({key})) info("engine argument {} says nothing to llama.cpp", key);
  for (const config::Entry& one : own->entries) {  // appended, as in FlagScale: they win
    std::string key = one.key.text;
    std::replace(key.begin(), key.end(), '-', '_');
    common->set({key}, one.value->copy());
  }
  NodeTask task = node_task(e, placement.places[0], job, "", {});
  task.command.argv = {program(e), "--model", python_str(*common->find({"model"}))};
  for (std::string& flag : flags_of(*common, {.nested = Nested::kJson, .without = {"model"}}))
    task.command.argv.push_back(std::move(flag));
  job.port = entry.arguments->find({"port"}) ? entry.port : 8080;  // llama-server's own default
  job.nodes.push_back(std::move(task));
}

const Registration<Adapter> kLlamaCpp{"llama_cpp", {"llama.cpp's server", {"serve"}, &fill}};

}  // namespace
}  // namespace llama_cpp
}  // namespace flagscale::launch
