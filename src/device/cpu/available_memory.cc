// Free memory as the kernel accounts it: /proc/meminfo, and cgroups of both versions.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "device/device.h"

namespace flagscale {

namespace {

namespace fs = std::filesystem;

// A number in a one-line file, or `otherwise` where it is absent or "max".
size_t read_number(const fs::path& path, size_t otherwise) {
  std::ifstream file(path);
  size_t value = 0;
  return file >> value ? value : otherwise;
}

// The sum of the values of "key value" lines that have one of `keys`.
template <class... Keys>
size_t sum_of(const fs::path& path, Keys... keys) {
  std::ifstream file(path);
  std::string key;
  size_t sum = 0;
  for (size_t value = 0; file >> key >> value;)
    if (((key == keys) || ...)) sum += value;
  return sum;
}

size_t meminfo_available(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  std::string key, unit;
  for (size_t kib = 0; file >> key >> kib; std::getline(file, unit))
    if (key == "MemAvailable:") return kib * 1024;
  return SIZE_MAX;
}

// What the files of one version are called.
struct Names {
  const char *mount, *limit, *usage, *inactive, *active;
};
constexpr Names kVersion1{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                          "total_inactive_file", "total_active_file"};
constexpr Names kVersion2{"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file", "active_file"};

size_t left_in(const fs::path& cgroup, const Names& names) {
  const size_t limit = read_number(cgroup / names.limit, SIZE_MAX);
  if (limit == SIZE_MAX) return SIZE_MAX;
  const size_t used = read_number(cgroup / names.usage, 0);
  const size_t reclaimable = std::min(used, sum_of(cgroup / "memory.stat", names.inactive, names.active));
  return limit > used - reclaimable ? limit - (used - reclaimable) : 0;
}

// `path` from /proc/self/cgroup and everything above it. In a container the path may be the host's, and only
// the mount's own root is to be seen: what is absent has no limit.
size_t least_left(const std::string& root, std::string path, const Names& names) {
  const std::string mount = root + names.mount;
  size_t least = left_in(mount, names);
  for (; path.size() > 1; path.resize(path.rfind('/'))) least = std::min(least, left_in(mount + path, names));
  return least;
}

}  // namespace

size_t available_memory(const std::string& root) {
  size_t available = std::min({meminfo_available(root), left_in(root + kVersion1.mount, kVersion1),
                               left_in(root + kVersion2.mount, kVersion2)});
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:memory:/path", "0::/path"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",",
                      path = line.substr(second + 1);
    if (controllers == ",,") available = std::min(available, least_left(root, path, kVersion2));
    if (controllers.find(",memory,") != std::string::npos)
      available = std::min(available, least_left(root, path, kVersion1));
  }
  return available;
}

}  // namespace flagscale
