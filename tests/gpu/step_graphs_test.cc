// Graphs of a server's steps where the GPU has memory for few, beside a driver that is none (fake_driver.c).

#include "engine/step_graphs.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace flagscale::engine {
namespace {

// A step of so many tokens: r is recorded and launched, g launched as a graph, k kernel by kernel.
char step(StepGraphs& graphs, int64_t tokens) {
  bool records = false;
  const bool replayed = graphs.replay({tokens, 16, false, 0}, [&] { records = true; });
  return !replayed ? 'k' : records ? 'r' : 'g';
}

// Where the GPU has memory for `there` graphs, in a process of its own; what is said comes first.
void expect_steps(const char* there, size_t most, const std::string& tokens, const std::string& words) {
  const auto run = [&] {
    setenv("FAKE_GRAPHS", there, 1);
    cuda::require();
    StepGraphs graphs(most);
    std::string steps;
    for (const char t : tokens) steps += step(graphs, t);
    std::fprintf(stderr, "%s, %zu\n", steps.c_str(), graphs.size());
    std::exit(0);
  };
  EXPECT_EXIT(run(), ::testing::ExitedWithCode(0), words);
}

TEST(StepGraphs, AreRecordedWhenAStepComesAgain) { expect_steps("9", 9, "aababbaa", "^krkgrggg, 2\n"); }

TEST(StepGraphs, TheOneNotLaunchedForLongestGivesWay) {
  // b gives way to c and is seen for the first time again; a and c stay.
  expect_steps("2", 2, "aabbaccbabb", "^krkrgkrkgrg, 2\n");
}

TEST(StepGraphs, WithoutMemoryStepsGoOnKernelByKernel) {
  // The third finds none: one is kept from then on.
  expect_steps("2", 9, "aabbccaabb",
               "^flagscale: warning: no memory for the graph of another step: steps are launched kernel by "
               "kernel, but for fewer graphs than before; .cuda. make a graph: CUDA_ERROR_OUT_OF_MEMORY"
               "[^\n]*\nkrkrkkkrkr, 1\n");
  expect_steps("0", 9, "aaabbb", "^flagscale: [^\n]*kernel by kernel, which is slower;[^\n]*\nkkkkkk, 0\n");
  expect_steps("9", 0, "aaa", "^kkk, 0\n");
}

}  // namespace
}  // namespace flagscale::engine
