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
  void remove() const;                                             // once it is empty

 private:
  std::filesystem::path folder_;
};

}  // namespace flagscale::launch
