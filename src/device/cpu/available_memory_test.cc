#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/temporary_folder_test_support.h"
#include "device/device.h"

namespace flagscale {
namespace {

namespace fs = std::filesystem;

// A machine's /proc and /sys in a folder.
class Machine {
 public:
  Machine() { file("proc/meminfo", "MemTotal:  9000 kB\nMemAvailable:  8000 kB\n"); }
  void file(const std::string& path, const std::string& text) const { root_.put(path, text); }
  size_t available() const { return available_memory(root_.path); }

 private:
  TemporaryFolder root_;
};

TEST(AvailableMemory, IsMemAvailableWithoutACgroup) { EXPECT_EQ(Machine().available(), 8000u * 1024); }

TEST(AvailableMemory, StaysBelowTheOwnCgroupsLimit) {
  const Machine machine;
  machine.file("proc/self/cgroup", "0::/user.slice/run.scope\n");
  machine.file("sys/fs/cgroup/user.slice/memory.max", "max\n");
  machine.file("sys/fs/cgroup/user.slice/run.scope/memory.max", "1000000\n");
  machine.file("sys/fs/cgroup/user.slice/run.scope/memory.current", "300000\n");
  EXPECT_EQ(machine.available(), 700000u);
  machine.file("sys/fs/cgroup/user.slice/run.scope/memory.stat",
               "anon 1\nactive_file 20000\ninactive_file 80000\n");
  EXPECT_EQ(machine.available(), 800000u) << "file pages are given up";
  machine.file("sys/fs/cgroup/user.slice/memory.max", "500000\n");
  machine.file("sys/fs/cgroup/user.slice/memory.current", "400000\n");
  EXPECT_EQ(machine.available(), 100000u) << "the cgroup around it";
  machine.file("sys/fs/cgroup/user.slice/memory.current", "600000\n");
  EXPECT_EQ(machine.available(), 0u);
}

TEST(AvailableMemory, ReadsVersion1) {
  const Machine machine;
  machine.file("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/jobs/7\n0::/\n");
  machine.file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  machine.file("sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes", "2000000\n");
  machine.file("sys/fs/cgroup/memory/jobs/7/memory.usage_in_bytes", "500000\n");
  machine.file("sys/fs/cgroup/memory/jobs/7/memory.stat", "inactive_file 9\ntotal_inactive_file 100000\n");
  EXPECT_EQ(machine.available(), 1600000u);
}

TEST(AvailableMemory, InAContainerTheMountsRootIsTheLimit) {
  const Machine machine;
  machine.file("proc/self/cgroup", "0::/host/path/that/is/not/here\n");
  machine.file("sys/fs/cgroup/memory.max", "3000000\n");
  machine.file("sys/fs/cgroup/memory.current", "1000000\n");
  EXPECT_EQ(machine.available(), 2000000u);
}

}  // namespace
}  // namespace flagscale
