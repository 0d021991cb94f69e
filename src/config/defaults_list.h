#pragma once
// Which files make up a configuration, in the order in which they are merged: Hydra's defaults lists, with
// groups, nested lists relative to their group, both orders of _self_, packages, "override" and "optional".

#include <string>
#include <vector>

#include "config/override.h"
#include "config/repository.h"

namespace flagscale::config {

struct ResultFile {
  std::string path;     // in the repository
  std::string package;  // where its content goes; "" is the root
  bool primary = false;
};

struct DefaultsList {
  std::vector<ResultFile> files;
  std::vector<Override> values;  // the overrides that are no group choices
};

// Throws Error{kNotFound} for a file or option that is not there (naming the options), Error{kConfig} for a
// list or a choice that makes no sense.
DefaultsList defaults_list(Repository& repository, const std::string& config_name,
                           const std::vector<Override>& overrides);

}  // namespace flagscale::config
