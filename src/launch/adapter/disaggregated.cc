#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "config/yaml.h"
#include "launch/adapter/vllm.h"
#include "launch/launcher/device_profile.h"

namespace flagscale::launch {
namespace {

using config::Node;
using config::NodePtr;

const std::string kDeploy = "experiment.runner.deploy.";

// The devices of each host, handed out in order.
class Devices {
 public:
  explicit Devices(const Placement& placement) : places_(placement.places), used_(places_.size(), 0) {}

  // `count` of one host: the first with as many left, or the one of that name.
  std::pair<const Place&, std::vector<int>> take(int count, const std::string& host,
                                                 const std::string& what) {
    std::string left;
    for (size_t i = 0; i < places_.size(); ++i) {
      const Place& place = places_[i];
      if (host != "auto" && place.host.name != host) continue;
      if (used_[i] + count <= place.host.slots) {
        std::vector<int> ids;
        for (int k = 0; k < count; ++k) ids.push_back(used_[i]++);
        return {place, ids};
      }
      left += fmt::format("{}{} has {} left", left.empty() ? "" : ", ", place.host.name,
                          place.host.slots - used_[i]);
    }
    if (left.empty()) left = fmt::format("the hostfile has no host {}", host);
    fail(ErrorKind::kConfig, "{} needs {} devices of one host: {}", what, count, left);
  }

 private:
  const std::vector<Place>& places_;
  std::vector<int> used_;
};

// The variables that show a process its devices; FlagScale sets NVIDIA's whatever they are.
std::vector<std::string> visible_by(const std::string& type) {
  const auto profile = type.empty() ? std::nullopt : find_device_profile(type);
  if (!profile || profile->visible.empty()) return {"CUDA_VISIBLE_DEVICES"};
  std::vector<std::string> names = profile->also_visible;
  names.push_back(profile->visible);
  return names;
}

int64_t size_of(const NodePtr& arguments, const char* key) {
  const NodePtr value = arguments->find({key});
  return value && value->kind == config::Kind::kInt ? std::max<int64_t>(value->number, 1) : 1;
}

bool is_off(const std::string& text) { return text == "0" || text == "False" || text == "false"; }

// vLLM's --kv-transfer-config.
NodePtr transfer(const Experiment& e, bool produces, int port, int http, const std::string& master,
                 int proxy) {
  const bool old = is_off(e.text("experiment.envs.VLLM_USE_V1", "1"));
  return config::parse_yaml(
      fmt::format(R"({{kv_connector: {}, kv_role: {}, kv_port: "{}", {}kv_connector_extra_config: )"
                  R"({{proxy_ip: "{}", proxy_port: "{}", http_port: "{}"}}}})",
                  old ? "P2pConnector" : "P2pNcclConnector", produces ? "kv_producer" : "kv_consumer", port,
                  old        ? ""
                  : produces ? R"(kv_buffer_size: "1e1", )"
                             : R"(kv_buffer_size: "8e9", )",
                  master, proxy, http),
      "kv_transfer_config");
}

}  // namespace

void add_disaggregated(const Experiment& e, const Placement& placement, const ServeEntry& entry, int proxy,
                       Job& job) {
  if (e.text("experiment.runner.hostfile").empty())
    fail(ErrorKind::kConfig, "{} needs experiment.runner.hostfile: which hosts have how many devices",
         e.place(kDeploy + "prefill_decode_disaggregation"));
  Devices devices(placement);
  const NodePtr all = vllm_arguments(entry);
  const auto each =
      static_cast<int>(size_of(all, "tensor_parallel_size") * size_of(all, "pipeline_parallel_size"));
  const std::string logs = e.text(kDeploy + "prefill_decode_log_dir", job.log.string());
  for (const char* kind : {"prefill", "decode"}) {
    const bool produces = std::string(kind) == "prefill";
    const int64_t count = e.number(kDeploy + kind + "_num", 1, 1);
    for (int64_t i = 0; i < count; ++i) {
      const std::string what = fmt::format("{}_{}", kind, i);
      const auto [place, ids] = devices.take(each, e.text(kDeploy + kind + "_address", "auto"), what);
      const NodePtr arguments = all->copy();
      const int http = free_port();
      arguments->set({"port"}, Node::integer(http));
      if (!produces) {
        const NodePtr share = e.value(kDeploy + "decode_gpu_memory_utilization");
        arguments->set({"gpu_memory_utilization"}, share ? share->copy() : Node::real(0.7));
      }
      arguments->set({"kv_transfer_config"},
                     transfer(e, produces, free_port(), http, placement.master, proxy));
      NodeTask task = node_task(e, place, job, "", {});
      task.rank = static_cast<int>(job.nodes.size());
      task.output = absolute_path(logs) / (what + ".log");
      for (const std::string& name : visible_by(place.host.type))
        task.command.env[name] = fmt::format("{}", fmt::join(ids, ","));
      task.command.argv = vllm_command(arguments);
      job.nodes.push_back(std::move(task));
    }
  }
  job.folders.push_back(absolute_path(logs));
}

}  // namespace flagscale::launch
