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

// Of two files, with tools that stand in for the real ones.
TEST(Dev, TidySaysHowFarItIsAndFailsWhereSomethingIsFound) {
  const TemporaryFolder folder;
  const auto tool = [&](const std::string& name, const std::string& script) {
    std::filesystem::permissions(folder.put("bin/" + name, "#!/bin/sh\n" + script),
                                 std::filesystem::perms(0755));
  };
  tool("cargo", "echo cargo 1.99.0");
  tool("cmake", "exit 0");
  tool("clang-tidy-19", R"(echo '12 warnings generated.' >&2
case "$*" in *bad.cc) echo 'bad.cc:1:1: error: this is wrong'; exit 1 ;; esac)");
  std::filesystem::copy(FLAGSCALE_SOURCE_DIR "/dev", folder.path);
  folder.put("good.cc", "");
  folder.put("bad.cc", "");
  folder.put("build-dev/compile_commands.json",
             "\"file\": \"" + folder.path + "/good.cc\",\n\"file\": \"" + folder.path + "/bad.cc\"\n");
  const auto tidy = [&](const std::string& words) {
    return shell("PATH=$PWD/bin:$PATH ./dev --no-apt tidy " + words, folder.path);
  };
  const Result good = tidy("good.cc");
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_EQ(good.out, "[1/1] good.cc\n");
  const Result all = tidy("");
  EXPECT_EQ(all.code, 1);
  EXPECT_NE(all.out.find("[2/2] "), std::string::npos) << all.out;
  EXPECT_NE(all.out.find("this is wrong"), std::string::npos) << all.out;
  EXPECT_EQ(all.out.find("generated"), std::string::npos) << all.out;
  EXPECT_NE(all.err.find("1 of 2 files"), std::string::npos) << all.err;
}

}  // namespace
}  // namespace flagscale::e2e
