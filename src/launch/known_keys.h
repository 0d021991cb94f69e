#pragma once
// A mapping of the configuration whose keys are known, each with what reads its value.

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "config/read_value.h"

namespace flagscale::launch {

// What is done with the value at a path. Throws Error{kConfig} with its place.
using ReadKey = std::function<void(const config::Node& value, const std::string& path)>;
using KnownKeys = std::vector<std::pair<std::string, ReadKey>>;

enum class OtherKeys { kPassedOver, kRefused };  // the mapping has keys of others too, or not

// `path`: the mapping's own. A key without a value is left as it is. Throws Error{kConfig} with file, line
// and path for a value that is wrong and, with the nearest name, for a key that is refused.
void read_known_keys(const config::Node& map, const std::string& path, const KnownKeys& keys,
                     OtherKeys others = OtherKeys::kRefused);

// `read`, which throws Error saying what is wrong with a value, not where that is.
ReadKey placed(std::function<void(const config::Node& value)> read);

// Into a variable of any type that config::read_value() reads.
template <class T>
ReadKey into(T& value) {
  return placed([&value](const config::Node& node) { config::read_value(node, value); });
}
ReadKey into(std::filesystem::path& value);
ReadKey into(std::map<std::string, std::string>& value);  // a mapping of texts
ReadKey into_seconds(std::chrono::seconds& value);        // whole ones, up to a day
ReadKey into_seconds(double& value);                      // any number of them; 0 is no limit

}  // namespace flagscale::launch
