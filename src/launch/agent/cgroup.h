#pragma once
// A control group (version 2) of one process tree: whatever a process does to leave its parents, session or
// terminal, it stays in the group, and one write kills all of it. Only where this process may make one; the
// tree is owned without it too (agent.h).

#include <filesystem>
#include <string>

namespace flagscale::launch {

class Cgroup {
 public:
  Cgroup() = default;  // none
  // One that is there, by its folder: an earlier agent's.
  explicit Cgroup(std::filesystem::path folder) : folder_(std::move(folder)) {}
  // Makes one inside this process's own; none where that is not allowed.
  static Cgroup make(const std::string& name);

  const std::filesystem::path& folder() const { return folder_; }  // empty: none
  void enter() const;                                              // with the calling process
  void kill() const;                                               // all in it, by SIGKILL
  bool remove() const;                                             // false where something is still in it
  void remove_soon() const;  // the same of one that was killed, which takes a moment

  // Removes those inside this process's own that are empty and whose names begin so.
  static void remove_all(const std::string& prefix);

 private:
  std::filesystem::path folder_;
};

}  // namespace flagscale::launch
