#pragma once
// A folder that results go to. What was made of its path goes again when nothing came of it.

#include <filesystem>
#include <vector>

namespace flagscale {

class MadeFolder {
 public:
  // Makes it and what it lies in, as far as they are not there. Throws Error{kResource}.
  explicit MadeFolder(const std::filesystem::path& folder);
  ~MadeFolder();  // without keep(): removes what it made and is empty
  MadeFolder(const MadeFolder&) = delete;
  MadeFolder& operator=(const MadeFolder&) = delete;

  void keep() { made_.clear(); }

 private:
  std::vector<std::filesystem::path> made_;  // the outermost last
};

}  // namespace flagscale
