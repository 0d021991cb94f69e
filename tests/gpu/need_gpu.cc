// In every program that has tests of a GPU: with FLAGSCALE_NEED_GPU=1 it fails where none computes, so that a
// broken GPU, or a program without kernels, is not taken for a machine that has none.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "device/cuda/cuda.h"

namespace flagscale {
namespace {

class NeedGpu : public ::testing::Environment {
 public:
  void SetUp() override {
    const char* wanted = std::getenv("FLAGSCALE_NEED_GPU");
    if (!wanted || std::string(wanted) != "1") return;
    ASSERT_TRUE(cuda::built()) << "FLAGSCALE_NEED_GPU=1: these tests have no kernels for a GPU; "
                                  "./dev test --preset cuda builds them";
    ASSERT_EQ(cuda::found().reason, "") << "FLAGSCALE_NEED_GPU=1: no GPU can be used";
  }
};

const auto* const kNeedGpu = ::testing::AddGlobalTestEnvironment(new NeedGpu);

}  // namespace
}  // namespace flagscale
