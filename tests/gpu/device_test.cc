// What of a GPU goes wrong, shown by a driver that is none (fake_driver.c). Each case is a process of its
// own, since a driver is opened once. Sources of src/device are compiled here as in a program with kernels
// for 80 and 90a, of CUDA 13.0.

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "device/cuda/cuda.h"
#include "device/cuda/driver.h"
#include "tests/gpu/need_gpu.h"

namespace flagscale {
namespace {

using Said = std::vector<std::pair<const char*, const char*>>;

// Of a process that ends with the code of an error, or with 0 saying what `work` returns.
template <class Work>
void tell(const Said& environment, Work work) {
  for (const auto& [name, value] : environment) setenv(name, value, 1);
  try {
    std::fprintf(stderr, "%s\n", work().c_str());
  } catch (const Error& error) {
    std::fprintf(stderr, "%s: %s\n", name(error.kind()), error.what());
    std::exit(exit_code(error.kind()));
  }
  std::exit(0);
}

std::string chosen(const char* text) { return std::string("chosen: ") + name(choose_device(text)); }

void expect_auto(const Said& environment, const char* words) {
  EXPECT_EXIT(tell(environment, [] { return chosen("auto"); }), ::testing::ExitedWithCode(0), words);
}
void expect_error(const Said& environment, const std::function<std::string()>& work, const char* words) {
  EXPECT_EXIT(tell(environment, work), ::testing::ExitedWithCode(1), words);
}
void expect_refused(const Said& environment, const char* words) {
  expect_error(environment, [] { return chosen("cuda"); }, words);
}

TEST(FakeGpu, IsTaken) {
  expect_auto({}, "^chosen: cuda");
  EXPECT_EXIT(tell({}, [] { return chosen("cuda"); }), ::testing::ExitedWithCode(0), "^chosen: cuda");
}

// The driver's version is read first, whatever else it has.
TEST(FakeGpu, ADriverThatIsTooOldIsNamed) {
  const Said old{{"FAKE_VERSION", "12040"}, {"FAKE_INIT", "999"}};
  constexpr const char* kWhy =
      "the NVIDIA driver runs CUDA 12.4, this program needs 13.0: driver 580 or newer";
  expect_auto(old, (std::string("the CPU computes: ") + kWhy + "\n.*chosen: cpu").c_str());
  expect_refused(old, (std::string("unsupported: device cuda: ") + kWhy + "; leave --device away").c_str());
}

// As ./dev cuda asks for.
TEST(FakeGpu, TheOldestDriverIsThatOfTheOldestToolkit) {
  EXPECT_EQ(cuda::too_old(12080, 12),
            "the NVIDIA driver runs CUDA 12.8, this program needs 12.9: driver 575 or newer");
  EXPECT_EQ(cuda::too_old(12090, 12), "");
  EXPECT_EQ(cuda::too_old(13000, 12), "");
  EXPECT_EQ(cuda::too_old(12090, 13),
            "the NVIDIA driver runs CUDA 12.9, this program needs 13.0: driver 580 or newer");
  EXPECT_EQ(cuda::too_old(13000, 13), "");
  EXPECT_EQ(
      cuda::lacks("cuIt", 12),
      "the NVIDIA driver is too old: it lacks cuIt, this program needs that of CUDA 12.9: driver 575 or "
      "newer");
  EXPECT_NE(cuda::lacks("cuIt", 13).find("CUDA 13.0: driver 580 or newer"), std::string::npos);
}

TEST(FakeGpu, ADriverThatDoesNotStartIsNamedUnlessThereIsNoGpu) {
  expect_auto({{"FAKE_INIT", "999"}},
              "the CPU computes: .* does not start: CUDA_ERROR_UNKNOWN.*\n.*chosen: cpu");
  expect_auto({{"FAKE_INIT", "100"}}, "^chosen: cpu");
  expect_auto({{"FAKE_GPUS", "0"}}, "^chosen: cpu");
  expect_refused({{"FAKE_GPUS", "0"}}, "device cuda: the driver shows no GPU; leave");
}

// Code for 80 runs on what is later within 8, code for 90a on nothing else.
TEST(FakeGpu, WithoutKernelsForItIsRefused) {
  expect_auto({{"FAKE_MAJOR", "8"}, {"FAKE_MINOR", "9"}}, "^chosen: cuda");
  expect_refused({{"FAKE_MAJOR", "10"}},
                 "GPU 0 has compute capability 10.0, this program has kernels for 80 90a: build it with "
                 "./dev cuda --architectures 100; leave --device away");
  expect_auto({{"FAKE_MAJOR", "7"}, {"FAKE_MINOR", "5"}},
              "the CPU computes: GPU 0 has .* 7.5, .*\n.*chosen: cpu");
  const auto use = [](int index) {
    return [index] {
      cuda::use(index);
      return cuda::identity();
    };
  };
  const Said two{{"FAKE_GPUS", "2"}, {"FAKE_SECOND_MINOR", "1"}};
  EXPECT_EXIT(tell(two, use(0)), ::testing::ExitedWithCode(0), "^00000000000000000000000000000000\n");
  expect_error(two, use(1), "device cuda: GPU 1 has compute capability 9.1, this .*--architectures 91a");
  expect_error(two, use(2), "GPU 2 is asked for, there are 2");
}

// FLAGSCALE_NEED_GPU, of tests.
TEST(FakeGpu, TestsMayNeedSoMany) {
  const auto expect_missing = [](const Said& environment, const char* wanted, const char* words) {
    EXPECT_EXIT(tell(environment, [wanted] { return "missing: " + missing_gpus(wanted); }),
                ::testing::ExitedWithCode(0), words);
  };
  const Said two{{"FAKE_GPUS", "2"}}, none{{"FAKE_GPUS", "0"}};
  expect_missing(none, "", "^missing: \n");
  expect_missing(none, "0", "^missing: \n");
  expect_missing(none, "1", "FLAGSCALE_NEED_GPU=1: no GPU can be used: the driver shows no GPU");
  expect_missing({}, "1", "^missing: \n");
  expect_missing({}, "2", "FLAGSCALE_NEED_GPU=2: here is 1\n");
  expect_missing(two, "2", "^missing: \n");
  expect_missing(two, "3", "FLAGSCALE_NEED_GPU=3: here are 2\n");
  expect_missing(two, "both", "FLAGSCALE_NEED_GPU=both: it is how many");
}

TEST(FakeGpu, MemoryThatIsNotThereIsToldInGiB) {
  const auto take = [](bool pinned) {
    return [pinned] {
      const auto allocator =
          pinned ? make_shared_allocator(DeviceKind::kCuda) : make_allocator(DeviceKind::kCuda);
      allocator->allocate(size_t{13} << 30);
      return std::string();
    };
  };
  const Said full{{"FAKE_ALLOCATE", "2"}, {"FAKE_FREE_MIB", "200"}};
  expect_error(full, take(false),
               "^resource: the GPU has 0.2 GiB of 80.0 GiB free, 13.0 GiB more are needed in one piece; "
               ".nvidia-smi. shows whether another");
  expect_error(full, take(true),
               "^resource: 13.0 GiB of main memory cannot be pinned for the GPU, .*iB are free");
  expect_error({{"FAKE_ALLOCATE", "999"}}, take(false), "^device: .cuda. take memory: CUDA_ERROR_UNKNOWN");
}

TEST(FakeGpu, ThatIsLostSaysWhereToLook) {
  const auto wait = [] {
    cuda::require();
    cuda::synchronize();
    return std::string();
  };
  expect_error({{"FAKE_LOST", "999"}}, wait,
               "^device: .cuda. a kernel failed: CUDA_ERROR_UNKNOWN: words; `dmesg . grep -i xid` says");
  expect_error(
      {{"FAKE_LOST", "2"}}, wait,
      "^resource: .cuda. a kernel failed: CUDA_ERROR_OUT_OF_MEMORY: out of memory; `nvidia-smi` shows "
      "who has .* micro_batch_size, .* gpu_memory_utilization");
}

TEST(FakeGpu, WhatOthersHaveIsToldWhereItIsMoreThanContexts) {
  EXPECT_EQ(cuda::of_others(size_t{600} << 20), "");
  EXPECT_EQ(cuda::of_others(size_t{63} << 30), ", 63.0 GiB are other processes' (`nvidia-smi` shows whose)");
}

}  // namespace
}  // namespace flagscale
