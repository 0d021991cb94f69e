#include "engine/gpu_room.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace flagscale::engine {
namespace {

constexpr size_t kGib = size_t{1} << 30;

std::string refusal_of(const GpuRoom& room) {
  try {
    room.require_sequence();
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kResource);
    return error.what();
  }
}

TEST(GpuRoom, IsWhatUtilizationAndTheModelLeave) {
  GpuRoom room{79 * kGib, 80 * kGib, 0.75, 10 * kGib, 40 * kGib, 4096};
  EXPECT_EQ(room.for_cache(), 79 * kGib - 20 * kGib - kGib / 2 - 10 * kGib);
  EXPECT_EQ(refusal_of(room), "");
  room.model = 70 * kGib;
  EXPECT_EQ(room.for_cache(), 0u);
}

TEST(GpuRoom, SaysByHowMuchASequenceDoesNotFit) {
  GpuRoom room{79 * kGib + kGib / 2, 80 * kGib, 0.75, 50 * kGib, 12 * kGib, 4096};
  EXPECT_EQ(
      refusal_of(room),
      "the GPU has 79.5 GiB of 80.0 GiB free, 3.0 GiB too little: weights and a step take 50.0 GiB, the "
      "cache "
      "of one sequence of 4096 tokens 12.0 GiB, and gpu_memory_utilization=0.75 leaves 20.0 GiB free; lower "
      "max_model_len or max_num_batched_tokens, or take fewer bits with quantization, or raise "
      "gpu_memory_utilization to 0.79");
}

// More of it would not help then.
TEST(GpuRoom, NamesOtherProcessesInPlaceOfUtilization) {
  const std::string refused = refusal_of({kGib / 4, 80 * kGib, 0.9, kGib, kGib, 4096});
  EXPECT_NE(
      refused.find("0.2 GiB of 80.0 GiB free, 79.8 GiB are other processes' (`nvidia-smi` shows whose), "
                   "10.2 GiB too little"),
      std::string::npos)
      << refused;
  EXPECT_TRUE(refused.ends_with("; end what else runs there")) << refused;
}

}  // namespace
}  // namespace flagscale::engine
