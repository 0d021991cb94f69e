#include "launch/launcher/linked_launcher.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "launch/launcher/child.h"
#include "launch/launcher/this_program.h"

namespace flagscale::launch {

namespace {

constexpr off_t kKept = 4096;  // bytes of stderr that are looked at

std::vector<std::string> last_lines(int fd) {
  struct stat status = {};
  char text[kKept];
  if (fstat(fd, &status) != 0) return {};
  const ssize_t size = pread(fd, text, sizeof text, std::max<off_t>(0, status.st_size - kKept));
  return lines_of(std::string(text, static_cast<size_t>(std::max<ssize_t>(0, size))));
}

}  // namespace

std::string name_of(const NodeTask& task) {
  return task.host.is_here() ? fmt::format("rank {}", task.rank)
                             : fmt::format("host {} (rank {})", task.host.name, task.rank);
}

LinkedLauncher::LinkedLauncher(const LauncherOptions& options)
    : options_(options), program_(this_program(options)) {}

LinkedLauncher::~LinkedLauncher() {
  for (const auto& [rank, fd] : err_) close(fd);
}

AgentLink LinkedLauncher::open(const NodeTask& task) {
  const int err = memfd_create("stderr", MFD_CLOEXEC);
  if (err < 0) fail(ErrorKind::kResource, "no memory for a node's stderr: {}", std::strerror(errno));
  const auto [place, is_new] = err_.emplace(task.rank, err);
  if (!is_new) close(std::exchange(place->second, err));  // a restart
  const Started started = start_child(way(task, {program_, "agent", "-"}), {.err = err});
  return {started.pid, started.in, started.out};
}

std::string LinkedLauncher::explain(const NodeTask& task, int exit_code) {
  const auto err = err_.find(task.rank);
  if (exit_code > 128 && exit_code != 255)
    return fmt::format("{}: its agent was ended by signal {}", name_of(task), exit_code - 128);
  return explain(task, exit_code, err == err_.end() ? std::vector<std::string>() : last_lines(err->second));
}

}  // namespace flagscale::launch
