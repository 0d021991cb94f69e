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
#include "io/safetensors_writer.h"

namespace flagscale::io {

// A folder of model files that is there may be replaced by a newer writing of the same model.
enum class Replace {
  kOwn,  // what this program wrote of a model with the same configuration, made from the same run or model
  kAny,  // whatever it is
};

// Tells models apart by where they come from: of a checkpoint the run's folder, whatever its iteration. A
// hash, since models are published and paths are not; an adapter that was merged in counts too.
std::string source_mark(const std::string& path, const std::string& adapter = "");

class FolderAside {
 public:
  struct Model {
    std::string config_name, config;  // name and text of the file that says what the model is
    std::string made_from;            // source_mark()
  };
  // Throws Error{kInvalidArgument}, before anything is written, for a target that names no folder, and for
  // one that holds a model which may not be replaced, checkpoints, or a folder in the place of a file.
  FolderAside(const std::string& target, Model model, Replace replace);
  ~FolderAside();
  FolderAside(const FolderAside&) = delete;
  FolderAside& operator=(const FolderAside&) = delete;

  const std::string& path() const { return path_; }
  Metadata metadata() const;                                        // of the weights' files
  void add(const std::map<std::string, std::string>& files) const;  // name to text
  // Throws as the constructor does for what stands in the place of a file written so far and is not this
  // program's: to be called before what takes long.
  void check() const;
  // Writes the configuration, checks once more and puts all in place; a model of the other kind (whole, or an
  // adapter) that is replaced goes. Nothing is touched where it throws for what is there.
  void commit();

 private:
  void check_weights() const;
  std::set<std::string> names() const;  // of the files written so far
  void replace_files() const;
  void remove_leftovers() const;

  std::filesystem::path target_;
  std::string path_;
  Model model_;
  std::optional<MadeFolder> made_;  // that the target lies in
  bool free_ = false;               // files of the same names may be replaced
};

}  // namespace flagscale::io
