// A training whose GPU has no memory left, beside a driver that is none (fake_driver.c).

#include "kernel/cuda/no_memory.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "kernel/cuda/errors.h"
#include "train/micro_graphs.h"

namespace flagscale {
namespace {

// r: recorded, and launched; g: launched as a graph; k: kernel by kernel.
template <class Run>
char way(Run run) {
  static int64_t replayed = 0;
  int called = 0;
  const int64_t now = run([&] { ++called; });
  const bool graph = std::exchange(replayed, now) != now;
  return !graph ? 'k' : called > 0 ? 'r' : 'g';
}

// In a process of its own, where the GPU has memory for `there` graphs; what is said comes first.
template <class Steps>
void expect_steps(const char* there, Steps steps, const std::string& words) {
  const auto run = [&] {
    setenv("FAKE_GRAPHS", there, 1);
    cuda::require();
    std::fprintf(stderr, "%s\n", steps().c_str());
    std::exit(0);
  };
  EXPECT_EXIT(run(), ::testing::ExitedWithCode(0), words);
}

constexpr const char* kTold =
    "^flagscale: warning: no memory for a graph of the training's steps: kernels are launched one by one, "
    "which is slower; .cuda. make a graph: CUDA_ERROR_OUT_OF_MEMORY[^\n]*\n";

std::string updates() {
  train::ReplayedLaunches update;
  std::string ways;
  for (int i = 0; i < 4; ++i)
    ways += way([&](const auto& launches) {
      update.run(launches);
      return update.replayed();
    });
  return ways;
}

// Of two kinds, whose numbers of sequences are those.
std::string micro_batches(const std::string& numbers) {
  train::MicroGraphs graphs;
  std::string ways;
  for (const char n : numbers)
    ways += way([&](const auto& launches) {
      graphs.run({n, n % 2, 0, 0, 1, 1}, launches);
      return graphs.replayed();
    });
  return ways;
}

TEST(NoMemory, AnUpdateWithoutAGraphIsLaunchedKernelByKernel) {
  expect_steps("1", updates, "^krgg\n");
  expect_steps("0", updates, std::string(kTold) + "kkkk\n");
}

TEST(NoMemory, MicroBatchesWithoutAGraphAreLaunchedKernelByKernel) {
  expect_steps("2", [] { return micro_batches("aaabbbaba"); }, "^krgkrgggg\n");
  // The second kind finds none, and the first keeps its own.
  expect_steps("1", [] { return micro_batches("aaabbbaba"); }, std::string(kTold) + "krgkkkgkg\n");
}

template <class Work>
void expect_no_memory(Work work, const std::string& words) {
  try {
    work();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kResource);
    EXPECT_EQ(std::string(error.what()).find(words), 0u) << error.what();
    EXPECT_NE(std::string(error.what()).find("80.0 GiB are free; `nvidia-smi` shows"), std::string::npos)
        << error.what();
  }
}

// What has its memory after the plan was compared with the GPU's.
TEST(NoMemory, OfProductsAndKernelsIsSaidAsOfAllElse) {
  expect_no_memory([] { cuda::product_failed(2, 3, 4, DType::kBF16, DType::kF32, 3); },
                   "the GPU has no memory left for cuBLASLt's product of [2, 4] and [4, 3]: 80.0 GiB of ");
  expect_no_memory([] { cuda::launch_failed("rms_norm", "out of memory"); },
                   "the GPU has no memory left for the kernel of rms_norm: ");
  EXPECT_THROW(cuda::launch_failed("rms_norm", "unknown error"), Error);
}

}  // namespace
}  // namespace flagscale
