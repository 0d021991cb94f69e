#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <string>

#include "device/cuda/cuda.h"

namespace flagscale {
namespace {

struct Ended {
  int code;
  std::string said;
};

// Other tests of this program, where no GPU is shown.
Ended run_others(const std::string& environment) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  FILE* pipe =
      popen(("CUDA_VISIBLE_DEVICES= " + environment + " '" + self + "' --gtest_filter=AvailableMemory* 2>&1")
                .c_str(),
            "r");
  std::string said;
  std::array<char, 4096> piece{};
  while (const size_t n = fread(piece.data(), 1, piece.size(), pipe)) said.append(piece.data(), n);
  const int status = pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, said};
}

TEST(NeedGpu, IsWhatMakesTestsFailWhereNoGpuComputes) {
  const Ended asked = run_others("FLAGSCALE_NEED_GPU=1");
  EXPECT_EQ(asked.code, 1) << asked.said;
  EXPECT_NE(asked.said.find(cuda::built() ? "no GPU can be used" : "./dev test --preset cuda builds them"),
            std::string::npos)
      << asked.said;
  const Ended unasked = run_others("FLAGSCALE_NEED_GPU=");
  EXPECT_EQ(unasked.code, 0) << unasked.said;
  EXPECT_NE(unasked.said.find("[       OK ]"), std::string::npos) << unasked.said;
}

}  // namespace
}  // namespace flagscale
