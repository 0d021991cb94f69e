// folders: config
// seeds: tests/golden/compose/trees
#include <algorithm>
#include <string>

#include "base/error.h"
#include "config/override.h"
#include "config/resolve.h"
#include "config/show.h"
#include "config/yaml.h"

// The input as YAML, printed and read again; its first line as an override, and as an interpolation.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flagscale;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const config::NodePtr root = config::parse_yaml(text, "input");
    if (root->is_container()) {
      config::to_flat_json(root);
      config::to_json(root);
      config::parse_yaml(config::to_yaml(root), "printed");
    }
  } catch (const Error&) {  // refused
  }
  const std::string line = text.substr(0, std::min(text.find('\n'), size_t{2000}));
  try {
    config::parse_override(line);
  } catch (const Error&) {  // refused
  }
  try {
    const config::NodePtr map = config::Node::map();
    map->set(config::Key("a"), config::Node::string("${" + line + "}"));
    config::resolve(map->find(config::Key("a")));
  } catch (const Error&) {  // refused
  }
  return 0;
}
