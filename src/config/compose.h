#pragma once
// A configuration as Hydra composes it: the files that the defaults lists name, merged in order, then the
// overrides. Values stay lazy; resolve.h gives them, flat.h and yaml_writer.h print them.

#include <string>
#include <vector>

#include "config/node.h"

namespace flagscale::config {

struct ComposeRequest {
  std::string folder;  // --config-path
  std::string name;    // --config-name, with or without .yaml; may lie in a sub-folder
  std::vector<std::string> overrides;
};

class Composed {
 public:
  Composed(NodePtr root, NodePtr hydra, std::vector<std::string> files)
      : root_(std::move(root)), hydra_(std::move(hydra)), files_(std::move(files)) {}

  const NodePtr& root() const { return root_; }
  const NodePtr& hydra() const { return hydra_; }  // Hydra's own settings; not part of root()
  const std::vector<std::string>& files() const {
    return files_;
  }  // in merging order, as the repository names them

  // The value at a dotted path; null when absent, null or "???". Throws ResolutionError for an interpolation
  // that fails.
  NodePtr value(const std::string& path) const;

 private:
  NodePtr root_, hydra_;
  std::vector<std::string> files_;
};

// Throws Error{kNotFound}, Error{kConfig}, Error{kInvalidArgument}: each names the file and line or the
// override.
Composed compose(const ComposeRequest& request);

}  // namespace flagscale::config
