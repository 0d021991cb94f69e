#include "launch/adapter/communication.h"

#include <fmt/format.h>

#include <optional>
#include <set>

#include "launch/launcher/device_profile.h"

namespace flagscale::launch {
namespace {

// Not of one vendor. Vendors' own builds of PyTorch take "nccl" for their library too.
const std::set<std::string> kAnywhere{"", "nccl", "gloo", "mpi", "ucc", "flagcx"};
const std::set<std::string> kOverVendors{"gloo", "mpi", "flagcx"};

}  // namespace

std::vector<std::string> communication_warnings(const std::vector<Host>& hosts, const std::string& backend) {
  std::vector<std::string> warnings;
  std::optional<DeviceProfile> first;
  std::string first_host;
  bool mixed = kOverVendors.contains(backend), foreign = kAnywhere.contains(backend);  // said, or not to say
  for (const Host& host : hosts) {
    const auto profile = host.type.empty() ? std::nullopt : find_device_profile(host.type);
    if (!profile) continue;
    if (!foreign && profile->torch_backend != backend) {
      foreign = true;
      warnings.push_back(fmt::format(
          "train.system.distributed_backend is {}, and {} has {} devices, whose back end is {} ({})", backend,
          host.name, profile->name, profile->torch_backend, profile->library));
    }
    if (!first) {
      first = profile, first_host = host.name;
    } else if (!mixed && profile->library != first->library) {
      mixed = true;
      warnings.push_back(fmt::format(
          "{} has {} devices, which communicate by {}, and {} has {} devices, which communicate by {}: "
          "train.system.distributed_backend=flagcx or gloo is for both",
          first_host, first->name, first->library, host.name, profile->name, profile->library));
    }
  }
  return warnings;
}

}  // namespace flagscale::launch
