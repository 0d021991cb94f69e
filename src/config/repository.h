#pragma once
// The folders where configurations are looked up, and the files read from them, each once.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/node.h"

namespace flagscale::config {

// One entry of a defaults list as written.
struct DefaultItem {
  bool is_group = false;               // "group: option"; else the path of a file
  std::string path;                    // of the file, or the group's
  std::optional<std::string> package;  // after '@'
  std::optional<std::string> option;   // none: null, no file is chosen
  std::vector<std::string> options;    // a list of options
  bool is_list = false;
  bool optional = false, is_override = false;
  Origin origin;
};

struct ConfigFile {
  NodePtr config;                      // without its defaults list
  std::optional<std::string> package;  // from the header "# @package"
  std::vector<DefaultItem> defaults;
};

class Repository {
 public:
  // Throws Error{kNotFound} when the folder is missing.
  explicit Repository(const std::string& folder);
  void add_folder(const std::string& folder);  // searched after the others

  bool has_group(const std::string& group) const;
  bool has_config(const std::string& path) const;
  // Null when there is no such file. Throws Error{kConfig} naming file and line for one that cannot be read.
  const ConfigFile* load(const std::string& path);
  std::vector<std::string> options(const std::string& group) const;  // sorted

 private:
  std::optional<std::string> find(const std::string& path) const;

  std::vector<std::string> folders_;
  std::map<std::string, std::unique_ptr<ConfigFile>> files_;
};

}  // namespace flagscale::config
