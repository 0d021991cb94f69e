#include "launch/agent/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {

// Where version 2 is mounted, beside version 1's hierarchies or alone.
fs::path cgroup2_mount() {
  std::ifstream mounts("/proc/self/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string device, folder, type;
    fields >> device >> folder >> type;
    if (type == "cgroup2") return folder;
  }
  return {};
}

fs::path own_cgroup() {
  const fs::path mount = cgroup2_mount();
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; !mount.empty() && std::getline(groups, line);)
    if (line.starts_with("0::/") && line.find("..") == std::string::npos) return mount / line.substr(4);
  return {};
}

void write_word(const fs::path& file, std::string_view word) {
  const int fd = open(file.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  [[maybe_unused]] const ssize_t written = write(fd, word.data(), word.size());
  close(fd);
}

}  // namespace

Cgroup Cgroup::make(const std::string& name) {
  const fs::path parent = own_cgroup();
  if (parent.empty()) return {};
  const fs::path folder = parent / name;
  if (mkdir(folder.c_str(), 0755) != 0) return {};
  if (access((folder / "cgroup.kill").c_str(), W_OK) == 0) return Cgroup(folder);
  rmdir(folder.c_str());  // a kernel before 5.14
  return {};
}

void Cgroup::enter() const {
  if (!folder_.empty()) write_word(folder_ / "cgroup.procs", "0");
}

void Cgroup::kill() const {
  if (!folder_.empty()) write_word(folder_ / "cgroup.kill", "1");
}

bool Cgroup::remove() const { return folder_.empty() || rmdir(folder_.c_str()) == 0 || errno != EBUSY; }

void Cgroup::remove_soon() const {
  for (int looks = 0; !remove() && looks < 200; ++looks)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

void Cgroup::remove_all(const std::string& prefix) {
  std::error_code gone;  // others come and go meanwhile
  const fs::path parent = own_cgroup();
  if (parent.empty()) return;
  for (fs::directory_iterator at(parent, gone), end; !gone && at != end; at.increment(gone))
    if (at->path().filename().string().starts_with(prefix)) Cgroup(at->path()).remove();
}

}  // namespace flagscale::launch
