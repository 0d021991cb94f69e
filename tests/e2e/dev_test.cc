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
  for (const char* words :
       {"build foo", "build --prset=ci", "quickstart --train-iter 100", "quickstart --train-iters 100 x",
        "test --al", "test -R ^op$ --labels", "test op", "pack x", "pack --architectures 80", "cuda x",
        "bench refusals x", "format --chekc", "format --check x", "tidy --sinc HEAD", "tidy none.cc",
        "tidy --since HEAD x", "clean build"}) {
    const Result result = dev(words);
    EXPECT_EQ(result.code, 1) << words;
    EXPECT_NE(result.err.find("does not know «"), std::string::npos) << words << "\n" << result.err;
  }
}

TEST(Dev, SaysThatAValueIsMissing) {
  for (const char* words :
       {"quickstart --train-iters", "build --preset", "cuda --architectures", "tidy --since"}) {
    const Result result = dev(words);
    EXPECT_EQ(result.code, 1) << words;
    EXPECT_NE(result.err.find("dev: --"), std::string::npos) << words << "\n" << result.err;
    EXPECT_NE(result.err.find(" needs a value"), std::string::npos) << words << "\n" << result.err;
  }
}

// A folder with ./dev in it and, in bin, tools that stand in for the real ones.
struct Stand : TemporaryFolder {
  Stand() {
    std::filesystem::copy(FLAGSCALE_SOURCE_DIR "/dev", path);
    put("deps/apt.txt", "");
    tool("cargo", "echo cargo 1.99.0");
  }
  void tool(const std::string& name, const std::string& script) const {
    std::filesystem::permissions(put("bin/" + name, "#!/bin/sh\n" + script), std::filesystem::perms(0755));
  }
  Result dev(const std::string& words, const std::string& variables = "") const {
    return shell(
        "unset CUDACXX FLAGSCALE_PRESET; PATH=$PWD/bin:$PATH " + variables + " ./dev --no-apt " + words,
        path);
  }
};

// Of two files.
TEST(Dev, TidySaysHowFarItIsAndFailsWhereSomethingIsFound) {
  const Stand folder;
  folder.tool("cmake", "exit 0");
  folder.tool("clang-tidy-19", R"(echo '12 warnings generated.' >&2
case "$*" in *bad.cc) echo 'bad.cc:1:1: error: this is wrong'; exit 1 ;; esac)");
  folder.put("good.cc", "");
  folder.put("bad.cc", "");
  folder.put("build-dev/compile_commands.json",
             "\"file\": \"" + folder.path + "/good.cc\",\n\"file\": \"" + folder.path + "/bad.cc\"\n");
  const Result good = folder.dev("tidy good.cc");
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_EQ(good.out, "[1/1] good.cc\n");
  const Result all = folder.dev("tidy");
  EXPECT_EQ(all.code, 1);
  EXPECT_NE(all.out.find("[2/2] "), std::string::npos) << all.out;
  EXPECT_NE(all.out.find("this is wrong"), std::string::npos) << all.out;
  EXPECT_EQ(all.out.find("generated"), std::string::npos) << all.out;
  EXPECT_NE(all.err.find("1 of 2 files"), std::string::npos) << all.err;
}

// What ./dev cuda says with a driver and a compiler, where the configuration shows its words and ends there.
std::string said_of_cuda(const std::string& driver, const std::string& nvcc, const std::string& words = "",
                         const std::string& variables = "") {
  const Stand folder;
  folder.tool("nvidia-smi", driver.empty() ? "exit 9" : "echo " + driver);
  folder.tool("nvcc", "echo 'Cuda compilation tools, release " + nvcc + ", V" + nvcc + ".1'");
  folder.tool("cmake", "echo \"$@\"; exit 1");
  folder.tool("python3", "exit 1");
  const Result result = folder.dev("cuda " + words, variables);
  EXPECT_EQ(result.code, 1);
  return result.out + result.err;
}

TEST(Dev, CudaReadsTheDriverFirst) {
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(said_of_cuda("550.54.15", "13.0"), "the NVIDIA driver is 550.54.15: CUDA 13.0 needs 580 or newer");
  has(said_of_cuda("570.1", "12.9"), "the NVIDIA driver is 570.1: CUDA 12.9 needs 575 or newer");
  const std::string taken = said_of_cuda("575.1", "12.9", "--architectures 80,90a");
  has(taken, "-DFLAGSCALE_CUDA_ARCHITECTURES=80;90a");
  has(taken, "/bin/nvcc");
  EXPECT_EQ(said_of_cuda("580.1", "13.0").find("-DFLAGSCALE_WERROR=ON"), std::string::npos);
  has(said_of_cuda("580.1", "13.0", "--preset ci"), "-DFLAGSCALE_WERROR=ON");
  const std::string no_gpu = said_of_cuda("", "13.0");
  has(no_gpu, "nvidia-smi finds no GPU that works");
  has(no_gpu, "the configuration failed");
  const std::string old = said_of_cuda("580.1", "11.8");
  has(old, "nvcc is CUDA 11.8: 12.9 or newer is needed, so PyPI's compiler is taken");
  has(old, "NVIDIA's compiler could not be fetched from PyPI");
  has(said_of_cuda("580.1", "11.8", "", "CUDACXX=nvcc"), "nvcc is CUDA 11.8: 12.9 or newer is needed\n");
}

TEST(Dev, CudaRefusesArchitecturesThatLackWhatKernelsUse) {
  for (const auto& [architecture, said] :
       {std::pair{"90", "say 90a"}, {"75", "compute capabilities from 80 on"}, {"sm_90a", "has sm_90a"}}) {
    const Result result = shell(std::string("cmake '-DFLAGSCALE_CUDA_ARCHITECTURES=120;") + architecture +
                                    "' -P " FLAGSCALE_SOURCE_DIR "/cmake/cuda.cmake",
                                ".");
    EXPECT_NE(result.code, 0);
    EXPECT_NE(result.err.find(said), std::string::npos) << result.err;
  }
}

}  // namespace
}  // namespace flagscale::e2e
