#include "launch/adapter/vllm.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "base/error.h"
#include "launch/adapter/ray.h"
#include "launch/flags.h"

namespace flagscale::launch {
namespace {

using config::Entry;
using config::Kind;
using config::Node;
using config::NodePtr;

// vLLM turns these on where nothing is said, so that `false` must be said too.
const std::vector<std::string> kOnByDefault{"enable_chunked_prefill", "enable_prefix_caching"};

// Over several hosts vLLM runs in a Ray cluster, whose head is where it is started.
void fill_vllm(const Experiment& e, const Placement& placement, Job& job) {
  const ServeEntry entry = engine_entry(e, placement);
  const NodePtr arguments = vllm_arguments(entry);
  if (placement.nodes > 1 && !arguments->find({"distributed_executor_backend"}))
    arguments->set({"distributed_executor_backend"}, Node::string("ray"));
  job.port = entry.port;
  for (const Place& place : placement.places) {
    NodeTask task = node_task(e, place, job, "", {});
    if (place.rank > 0) {
      join_ray(placement, place, placement.port, task, job);
    } else {
      if (placement.nodes > 1) {
        task.prepare.push_back(task.command);
        task.prepare[0].argv = ray_head(place, placement.port);
      }
      task.command.argv = vllm_command(arguments);
    }
    job.nodes.push_back(std::move(task));
  }
}

const Registration<Adapter> kVllm{"vllm", {"vLLM's own server", {"serve"}, &fill_vllm}};

}  // namespace

namespace {

// "image=8,video=1", as vLLM took it once, and FlagScale's files have it: now it is a mapping.
NodePtr limits_of(const NodePtr& value) {
  if (value->kind != Kind::kString || value->text.find('=') == std::string::npos) return value;
  const NodePtr limits = Node::map();
  std::istringstream in(value->text);
  for (std::string part; std::getline(in, part, ',');) {
    const size_t at = part.find('=');
    int64_t count = 0;
    const char* const end = part.data() + part.size();
    if (at == std::string::npos || at == 0 || std::from_chars(part.data() + at + 1, end, count).ptr != end)
      fail(ErrorKind::kConfig,
           "{}: limit_mm_per_prompt is '{}', expected a mapping, or KIND=COUNT with commas between",
           describe(value->origin), value->text);
    limits->set({part.substr(0, at)}, Node::integer(count));
  }
  return limits;
}

}  // namespace

NodePtr vllm_arguments(const ServeEntry& entry) {
  const NodePtr all = Node::map();
  for (const NodePtr& part : {entry.of("vllm"), entry.arguments})
    for (const Entry& one : part->entries) {
      std::string key = one.key.text;
      std::replace(key.begin(), key.end(), '-', '_');
      all->set({key}, one.value->copy());
    }
  for (const std::string& key : kOnByDefault)
    if (const NodePtr value = all->find({key}); value && value->kind == Kind::kBool && !value->flag) {
      all->erase({key});
      all->set({"no_" + key}, Node::boolean(true));
    }
  if (const NodePtr limits = all->find({"limit_mm_per_prompt"}))
    all->set({"limit_mm_per_prompt"}, limits_of(limits));
  return all;
}

std::vector<std::string> vllm_command(const NodePtr& arguments) {
  std::vector<std::string> argv{"vllm", "serve", python_str(*arguments->find({"model"}))};
  const FlagStyle style{.nested = Nested::kJson, .without = {"model"}};
  for (std::string& flag : flags_of(*arguments, style)) argv.push_back(std::move(flag));
  return argv;
}

}  // namespace flagscale::launch
