// In every program that has tests of GPUs: with FLAGSCALE_NEED_GPU, how many there must be, it fails where
// fewer are or none computes, so that a broken GPU, or a program without kernels, is not taken for a machine
// that has none.

#include "need_gpu.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace flagscale {
namespace {

class NeedGpu : public ::testing::Environment {
 public:
  void SetUp() override {
    const char* wanted = std::getenv("FLAGSCALE_NEED_GPU");
    ASSERT_EQ(missing_gpus(wanted ? wanted : ""), "");
  }
};

const auto* const kNeedGpu = ::testing::AddGlobalTestEnvironment(new NeedGpu);

}  // namespace
}  // namespace flagscale
