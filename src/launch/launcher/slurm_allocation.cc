#include "launch/launcher/slurm_allocation.h"

#include <charconv>
#include <string_view>

#include "base/error.h"
#include "launch/launcher/node_list.h"

namespace flagscale::launch {

namespace {

std::string_view value_or_none(const char* value) { return value ? value : std::string_view(); }

int devices_in(std::string_view value) {
  int devices = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), devices);
  if (value.empty()) return 0;
  if (error != std::errc() || end != value.data() + value.size() || devices < 0)
    fail(ErrorKind::kConfig, "SLURM_GPUS_ON_NODE={}: expected a number of devices", value);
  return devices;
}

}  // namespace

std::optional<std::vector<Host>> allocated_hosts(const Environment& environment) {
  const std::string list(value_or_none(environment("SLURM_JOB_NODELIST")));
  if (value_or_none(environment("SLURM_JOB_ID")).empty() || list.empty()) return std::nullopt;
  if (const auto rank = rank_from_environment(environment); rank && rank->launcher == "Slurm")
    return std::nullopt;
  const int devices = devices_in(value_or_none(environment("SLURM_GPUS_ON_NODE")));
  std::vector<Host> hosts;
  for (const std::string& name : expand_node_list(list)) hosts.push_back({name, devices, ""});
  return hosts;
}

}  // namespace flagscale::launch
