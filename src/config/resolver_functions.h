#pragma once
// The named resolvers: OmegaConf's own (oc.env, oc.decode, oc.select, oc.create, oc.dict.keys,
// oc.dict.values, oc.deprecated) and Hydra's now.

#include <string>
#include <vector>

#include "config/node.h"

namespace flagscale::config {

// What a resolver may ask of the place where it is used.
class ResolverContext {
 public:
  virtual ~ResolverContext() = default;
  virtual Node& container() = 0;  // that holds the interpolation
  virtual NodePtr absolute(
      const std::string& key) = 0;  // the value at a key from the root (".x": from here), or null
  virtual NodePtr decode(const std::string& text) = 0;
  virtual std::string node_path() = 0;
};

using ResolverFunction = NodePtr (*)(ResolverContext& context, const std::vector<NodePtr>& arguments);

// Null when there is none of that name.
ResolverFunction find_resolver(const std::string& name);

}  // namespace flagscale::config
