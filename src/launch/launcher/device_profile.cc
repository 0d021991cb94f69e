#include "launch/launcher/device_profile.h"

#include <fmt/ranges.h>
#include <glob.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <map>

#include "base/error.h"
#include "config/read_value.h"
#include "config/yaml.h"
#include "launch/launcher/this_program.h"

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {

using config::Node;
using config::NodePtr;

// ./devices, then the ones installed beside the program, as the examples are.
std::vector<fs::path> profile_folders() {
  const fs::path program = fs::path(this_program({})).parent_path();
  return {"devices", program / "../share/flagscale/devices", program / "../devices"};
}

template <class T>
void read_from(const Node& map, const std::string& key, T& value) {
  const NodePtr node = map.find(key);
  if (!node) return;
  try {
    config::read_value(*node, value);
  } catch (...) {
    rethrow_with(describe(node->origin) + ": " + key);
  }
}

void check_profile_keys(const Node& map, const std::vector<std::string>& known) {
  for (const config::Entry& entry : map.entries)
    if (std::find(known.begin(), known.end(), entry.key.text) == known.end())
      fail(ErrorKind::kConfig, "{}: there is no key {} in a device profile; it has {}",
           describe(entry.value->origin), entry.key.text, fmt::join(known, ", "));
}

DeviceProfile read_profile(const fs::path& file) {
  const NodePtr root = config::parse_yaml(config::read_text_file(file), file);
  const auto map_at = [&](const char* key) {
    const NodePtr map = root->find({key});
    if (map && map->kind != config::Kind::kMap)
      fail(ErrorKind::kConfig, "{}: {} is no mapping", describe(map->origin), key);
    return map ? map : Node::map();
  };
  check_profile_keys(*root,
                     {"names", "visible", "also_visible", "resource", "communication", "count", "tool"});
  const NodePtr communication = map_at("communication"), count = map_at("count");
  check_profile_keys(*communication, {"library", "torch"});
  check_profile_keys(*count, {"files", "not_zero", "when"});
  DeviceProfile profile;
  profile.name = file.stem();
  read_from(*root, "names", profile.names);
  read_from(*root, "visible", profile.visible);
  read_from(*root, "also_visible", profile.also_visible);
  read_from(*root, "resource", profile.resource);
  read_from(*root, "tool", profile.tool);
  read_from(*communication, "library", profile.library);
  read_from(*communication, "torch", profile.torch_backend);
  read_from(*count, "files", profile.files);
  read_from(*count, "not_zero", profile.not_zero);
  read_from(*count, "when", profile.when);
  return profile;
}

std::vector<std::string> matches(const fs::path& root, const std::string& pattern) {
  glob_t found = {};
  std::vector<std::string> paths;
  if (glob((root.string() + pattern).c_str(), GLOB_NOSORT, nullptr, &found) == 0)
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  return paths;
}

bool holds_zero(const std::string& path) {
  std::ifstream file(path);
  int64_t number = 0;
  return !(file >> number) || number == 0;
}

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

std::vector<DeviceProfile> device_profiles() {
  std::map<std::string, DeviceProfile> profiles;
  for (const fs::path& folder : profile_folders()) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error))
      if (entry.path().extension() == ".yaml" && !profiles.contains(entry.path().stem()))
        profiles.emplace(entry.path().stem(), read_profile(entry.path()));
  }
  std::vector<DeviceProfile> result;
  for (auto& [name, profile] : profiles) result.push_back(std::move(profile));
  return result;
}

std::optional<DeviceProfile> find_device_profile(const std::string& name) {
  for (DeviceProfile& profile : device_profiles()) {
    std::vector<std::string> names = profile.names;
    names.push_back(profile.name);
    if (std::any_of(names.begin(), names.end(),
                    [&](const std::string& one) { return lower(one) == lower(name); }))
      return std::move(profile);
  }
  return std::nullopt;
}

DeviceProfile device_profile(const std::string& name) {
  if (auto found = find_device_profile(name)) return std::move(*found);
  std::vector<std::string> known;
  for (const DeviceProfile& profile : device_profiles()) known.push_back(profile.name);
  fail(ErrorKind::kNotFound,
       "there is no device profile '{}'; there are {}; another is a file devices/{}.yaml", name,
       fmt::join(known, ", "), name);
}

int devices_present(const DeviceProfile& profile, const fs::path& root) {
  const fs::path base = root == "/" ? fs::path() : root;  // patterns begin with a slash
  if (!profile.when.empty() && !fs::exists(base.string() + profile.when)) return 0;
  size_t count = 0;
  for (const std::string& pattern : profile.files) count += matches(base, pattern).size();
  for (const std::string& pattern : profile.not_zero) {
    const auto paths = matches(base, pattern);
    count += static_cast<size_t>(
        std::count_if(paths.begin(), paths.end(), [](const auto& path) { return !holds_zero(path); }));
  }
  return static_cast<int>(count);
}

std::optional<DevicesHere> devices_here(const fs::path& root) {
  std::optional<DevicesHere> here;
  for (DeviceProfile& profile : device_profiles()) {
    const int count = devices_present(profile, root);
    if (count > (here ? here->count : 0)) here = DevicesHere{std::move(profile), count};
  }
  return here;
}

}  // namespace flagscale::launch
