#include "launch/known_keys.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/nearest.h"
#include "config/resolve.h"

namespace flagscale::launch {

using config::Entry;
using config::Kind;
using config::Node;
using config::NodePtr;

namespace {

std::string with_place(const Node& node, const std::string& path) {
  const std::string place = describe(node.origin);
  return place.empty() ? path : place + ": " + path;
}

[[noreturn]] void refuse_key(const Entry& entry, const std::string& path, const KnownKeys& keys) {
  std::vector<std::string> names;
  for (const auto& [name, read] : keys) names.push_back(name);
  const std::string near = nearest(entry.key.text, names);
  fail(ErrorKind::kConfig, "{} is no key; {}{} has {}", with_place(*entry.value, path + "." + entry.key.text),
       near.empty() ? "" : "did you mean '" + near + "'? ", path, fmt::join(names, ", "));
}

}  // namespace

void read_known_keys(const Node& map, const std::string& path, const KnownKeys& keys, OtherKeys others) {
  if (map.kind != Kind::kMap) fail(ErrorKind::kConfig, "{} is no mapping", with_place(map, path));
  for (const Entry& entry : map.entries) {
    const auto key =
        std::find_if(keys.begin(), keys.end(), [&](const auto& one) { return one.first == entry.key.text; });
    if (key == keys.end() && others == OtherKeys::kPassedOver) continue;
    if (key == keys.end()) refuse_key(entry, path, keys);
    const NodePtr value = config::resolve(entry.value);
    if (value->kind != Kind::kNull && !value->is_missing()) key->second(*value, path + "." + key->first);
  }
}

ReadKey placed(std::function<void(const Node& value)> read) {
  return [read = std::move(read)](const Node& node, const std::string& path) {
    try {
      read(node);
    } catch (const Error& error) {
      fail(ErrorKind::kConfig, "{} {}", with_place(node, path), error.what());
    }
  };
}

ReadKey into(std::filesystem::path& value) {
  return placed([&value](const Node& node) {
    std::string text;
    config::read_value(node, text);
    value = text;
  });
}

ReadKey into(std::map<std::string, std::string>& value) {
  return [&value](const Node& node, const std::string& path) {
    if (node.kind != Kind::kMap) fail(ErrorKind::kConfig, "{} is no mapping", with_place(node, path));
    for (const Entry& entry : node.entries)
      into(value[entry.key.text])(*config::resolve(entry.value), path + "." + entry.key.text);
  };
}

ReadKey into_seconds(std::chrono::seconds& value) {
  return placed([&value](const Node& node) {
    int64_t number = 0;
    config::read_value(node, number);
    if (number < 1 || number > 86400) fail(ErrorKind::kConfig, "is {}, expected 1 to 86400 seconds", number);
    value = std::chrono::seconds(number);
  });
}

ReadKey into_seconds(double& value) {
  return placed([&value](const Node& node) {
    const bool number = node.kind == Kind::kInt || node.kind == Kind::kFloat;
    if (!number || node.floating < 0)
      fail(ErrorKind::kConfig, "is '{}': seconds, or 0 for no limit", config::python_str(node));
    value = node.floating;
  });
}

}  // namespace flagscale::launch
