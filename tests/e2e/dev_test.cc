// ./dev: what it is not told plainly it does not do.

#include <gtest/gtest.h>

#include <filesystem>

#include "base/temporary_folder_test_support.h"
#include "tests/e2e/program.h"

namespace flagscale::e2e {
namespace {

// In a folder of its own, where no command finds anything to work on.
Result dev(const std::string& words) {
  const TemporaryFolder folder;
  std::filesystem::copy(FLAGSCALE_SOURCE_DIR "/dev", folder.path);
  return shell("./dev --no-apt " + words, folder.path);
}

TEST(Dev, DiesOnWordsThatItDoesNotKnow) {
  for (const char* words : {"build foo", "build --prset=ci", "quickstart --train-iter 100",
                            "quickstart --train-iters 100 x", "test --al", "test -R ^op$ --labels", "test op",
                            "pack x", "cuda x", "bench refusals x", "format --chekc", "format --check x",
                            "tidy --sinc HEAD", "tidy none.cc", "tidy --since HEAD x", "clean build"}) {
    const Result result = dev(words);
    EXPECT_EQ(result.code, 1) << words;
    EXPECT_NE(result.err.find("does not know «"), std::string::npos) << words << "\n" << result.err;
  }
}

TEST(Dev, SaysThatAValueIsMissing) {
  for (const char* words : {"quickstart --train-iters", "build --preset", "tidy --since"}) {
    const Result result = dev(words);
    EXPECT_EQ(result.code, 1) << words;
    EXPECT_NE(result.err.find("dev: --"), std::string::npos) << words << "\n" << result.err;
    EXPECT_NE(result.err.find(" needs a value"), std::string::npos) << words << "\n" << result.err;
  }
}

}  // namespace
}  // namespace flagscale::e2e
