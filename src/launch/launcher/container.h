#pragma once
// experiment.runner.docker: the container, one on each host, in which everything of a job runs. FlagScale
// enters it by `docker exec` on the hosts that it reaches, and expects the launcher to be inside of the first
// one's.

#include <filesystem>
#include <string>
#include <vector>

namespace flagscale::launch {

class Container {
 public:
  // name: "" for none. root: of the file system, for tests.
  explicit Container(std::string name, const std::filesystem::path& root = "/");

  bool given() const { return !name_.empty(); }
  // Whether commands on this host stand outside of it and have to enter: here they need not where this
  // process is in a container itself, which has no docker.
  bool entered_from(const std::string& host) const;

  // What enters it, before a command's own words; they read its stdin.
  std::vector<std::string> words() const;

  // What docker's last lines mean, with the fix: `host`'s line; "" where they are not docker's.
  std::string explain(const std::string& host, const std::vector<std::string>& err,
                      const std::string& program) const;

 private:
  std::string name_;
  bool inside_ = false;
};

}  // namespace flagscale::launch
