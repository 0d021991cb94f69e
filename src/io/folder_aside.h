#pragma once
// A model's folder that is written beside its target and gets its name when it is whole; inside one that is
// there already, which may be a mount of its own. What an error left is removed, and what killed conversions
// to the same target left.

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "base/made_folder.h"

namespace flagscale::io {

// A folder of model files that is there may be replaced by a newer writing of the same model.
enum class Replace {
  kOwn,  // what this program wrote of a model with the same configuration
  kAny,  // whatever it is
};

class FolderAside {
 public:
  // `config`: name and text of the file that says what the model is. Throws Error{kInvalidArgument}, before
  // anything is written, for a target that holds a model which may not be replaced, or
  // checkpoints.
  FolderAside(const std::string& target, std::string config_name, std::string config, Replace replace);
  ~FolderAside();
  FolderAside(const FolderAside&) = delete;
  FolderAside& operator=(const FolderAside&) = delete;

  const std::string& path() const { return path_; }
  void add(const std::map<std::string, std::string>& files) const;  // name to text
  // Writes the configuration and puts all in place. Throws as the constructor does for a file of the same
  // name that is not this program's; nothing is touched then.
  void commit();

 private:
  void check_weights(const std::string& config_name, const std::string& config) const;
  void refuse_strangers(const std::set<std::string>& names) const;
  void replace_files(const std::set<std::string>& names) const;
  void remove_leftovers() const;

  std::filesystem::path target_;
  std::string path_, config_name_, config_;
  std::optional<MadeFolder> made_;  // that the target lies in
  bool free_ = false;               // files of the same names may be replaced
};

}  // namespace flagscale::io
