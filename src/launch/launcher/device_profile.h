#pragma once
// What a vendor's devices are called where a job is started: devices/<name>.yaml, beside the examples, one
// file a vendor.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace flagscale::launch {

struct DeviceProfile {
  std::string name;                // the file's
  std::vector<std::string> names;  // other ones, in any case: FlagScale's, the hostfile's types
  std::string visible;             // the variable that lists the devices a process may see; "" for processors
  std::vector<std::string> also_visible;  // others that libraries of the vendor read
  std::string resource;       // what Kubernetes calls one; "" where no plug-in of the vendor is known
  std::string library;        // of collective communication
  std::string torch_backend;  // as torch.distributed calls it
  std::string tool;           // the vendor's, to look at them
  // Counting: every path that matches `files` is a device, and every file that matches `not_zero` and holds
  // another number; nothing is where `when` is not.
  std::vector<std::string> files, not_zero;
  std::string when;
};

// All of them, by name: from ./devices, and those installed beside the program; the first file of a name
// counts. Throws Error{kConfig} naming the file for what does not parse.
std::vector<DeviceProfile> device_profiles();

// By its name or one of its other names; the second throws Error{kNotFound} with the names there are.
std::optional<DeviceProfile> find_device_profile(const std::string& name);
DeviceProfile device_profile(const std::string& name);

// On this machine, without any library of the vendor's. root: for tests.
int devices_present(const DeviceProfile& profile, const std::filesystem::path& root = "/");

// The vendor whose devices this machine has; of several, the one with the most. Empty: it has none of any.
struct DevicesHere {
  DeviceProfile profile;
  int count = 0;
};
std::optional<DevicesHere> devices_here(const std::filesystem::path& root = "/");

}  // namespace flagscale::launch
