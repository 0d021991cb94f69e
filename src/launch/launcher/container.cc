#include "launch/launcher/container.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <sstream>
#include <string_view>
#include <system_error>

#include "launch/launcher/own_names.h"

namespace flagscale::launch {

namespace {

namespace fs = std::filesystem;

// What docker, podman and shells without them write, and the line. {0}: the container, {1}: the program.
struct ContainerFailure {
  std::string_view sign, line;
};
constexpr std::array kContainerFailures = {
    ContainerFailure{"docker: command not found", "docker is not there: install it, or leave {0} out"},
    ContainerFailure{"docker: not found", "docker is not there: install it, or leave {0} out"},
    ContainerFailure{"docker: Command not found", "docker is not there: install it, or leave {0} out"},
    ContainerFailure{"Unknown command: docker", "docker is not there: install it, or leave {0} out"},
    ContainerFailure{"No such container", "there is no {0}: docker ps shows those that run"},
    ContainerFailure{"no container with name", "there is no {0}: docker ps shows those that run"},
    ContainerFailure{"is not running", "its {0} does not run: docker start brings it up"},
    ContainerFailure{"container state improper", "its {0} does not run: docker start brings it up"},
    ContainerFailure{"is paused", "its {0} is paused: docker unpause wakes it"},
    ContainerFailure{"permission denied while trying to connect",
                     "this user may not use docker there: put it into the group docker"},
    ContainerFailure{"Cannot connect to the Docker daemon", "docker's daemon does not run there: start it"},
    ContainerFailure{"executable file not found", "{0} has no sh, or no {1}"},
};

bool is_in_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');)
    if (access((folder + "/" + program).c_str(), X_OK) == 0) return true;
  return false;
}

// The mark alone also stands in machines made from an image; with a docker at hand others can be entered.
bool inside_of_one(const fs::path& root) {
  std::error_code none;
  const bool marked = fs::exists(root / ".dockerenv", none) || fs::exists(root / "run/.containerenv", none);
  return marked && !is_in_path("docker");
}

}  // namespace

Container::Container(std::string name, const fs::path& root)
    : name_(std::move(name)), inside_(given() && inside_of_one(root)) {}

bool Container::entered_from(const std::string& host) const {
  if (!given()) return false;
  return !inside_ || (host != "localhost" && !own_names().contains(host));
}

std::vector<std::string> Container::words() const { return {"docker", "exec", "-i", name_}; }

std::string Container::explain(const std::string& host, const std::vector<std::string>& err,
                               const std::string& program) const {
  const std::string named = fmt::format("container {} (experiment.runner.docker)", name_);
  for (const std::string& line : err)
    for (const ContainerFailure& failure : kContainerFailures)
      if (line.find(failure.sign) != std::string::npos)
        return fmt::format("host {}: {}", host, fmt::format(fmt::runtime(failure.line), named, program));
  return {};
}

}  // namespace flagscale::launch
