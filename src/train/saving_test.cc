#include "train/saving.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "train/parity_test_support.h"
#include "train/ranks_test_support.h"
#include "train/trainer.h"

namespace flagscale::train {
namespace {

// Where main memory has no room for copies, a save takes what it writes from the GPU.
TEST(Saving, OnAGpuWhatIsReadThereHasTheBitsOfCopies) {
  FLAGSCALE_NEED_GPU();
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    TrainOptions options = testing::small_run();
    options.compute = compute, options.device = DeviceKind::kCuda;
    Trainer trainer(options);
    trainer.run(stderr);
    const auto read = snapshot(trainer.step(), true, false), copied = snapshot(trainer.step(), true, true);
    ASSERT_EQ(read.size(), copied.size());
    for (size_t i = 0; i < read.size(); ++i) {
      EXPECT_FALSE(copied[i].read);
      ASSERT_TRUE(read[i].read) << read[i].name;
      const size_t half = read[i].bytes() / 2;
      std::vector<std::byte> bytes(read[i].bytes());
      read[i].read(half, std::span(bytes).subspan(half));
      read[i].read(0, std::span(bytes).first(half));
      EXPECT_TRUE(std::ranges::equal(bytes, copied[i].data)) << read[i].name;
    }
  }
}

// On the CPU there is nothing to copy.
TEST(Saving, OnTheCpuWhatIsWrittenIsTheStepsOwn) {
  const Trainer trainer(testing::small_run());
  EXPECT_TRUE(trainer.step().copies_fit());
  EXPECT_EQ(trainer.step().memory().copies, 0u);
  for (const io::TensorSlice& slice : snapshot(trainer.step(), true, false)) {
    EXPECT_FALSE(slice.read);
    EXPECT_EQ(slice.data.size(), slice.bytes());
  }
}

}  // namespace
}  // namespace flagscale::train
