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
      "cache of one sequence of 4096 tokens 12.0 GiB, and gpu_memory_utilization=0.75 leaves 20.0 GiB free; "
      "lower max_model_len, or take fewer bits with quantization, or raise gpu_memory_utilization to 0.79");
}

// The share alone is what a small model does not find.
TEST(GpuRoom, NamesUtilizationWhereItAloneBinds) {
  EXPECT_TRUE(refusal_of({8 * kGib, 80 * kGib, 0.9, 1 << 20, 1 << 20, 64})
                  .ends_with("leaves 8.0 GiB free; raise gpu_memory_utilization to 0.91"));
  EXPECT_TRUE(refusal_of({80 * kGib, 80 * kGib, 1e-5, 1 << 20, 1 << 20, 64})
                  .ends_with("; raise gpu_memory_utilization to 0.01"));
}

TEST(GpuRoom, NamesWhatTheCallerLowers) {
  GpuRoom room{70 * kGib, 80 * kGib, 1, 60 * kGib, 12 * kGib, 4096};
  room.lower = "--streams";
  EXPECT_TRUE(refusal_of(room).ends_with("; lower --streams, or take fewer bits with quantization"));
}

TEST(GpuRoom, HasGraphsBesideTheCache) {
  GpuRoom room{80 * kGib, 80 * kGib, 0.75, 10 * kGib, 40 * kGib, 4096};
  const size_t without = room.for_cache();
  room.graph = graph_bytes(320), room.most_graphs = 256;
  EXPECT_EQ(room.graph, 320u << 13);
  EXPECT_EQ(room.graphs(), 256u);
  EXPECT_EQ(room.for_cache(), without - 256 * room.graph);
  // What the cache leaves is as many graphs' again.
  GpuRoom full = room;
  full.model += room.for_cache(), full.sequence = 0;
  EXPECT_EQ(full.graphs(), 256u);
  // A 64th of the GPU at most.
  room.graph = graph_bytes(2000);
  EXPECT_EQ(room.graphs(), (80 * kGib / 64) / room.graph);
  EXPECT_GT(room.graphs(), 70u);
}

TEST(GpuRoom, GivesASequenceTheRoomOfGraphs) {
  GpuRoom room{80 * kGib, 80 * kGib, 1, 10 * kGib, 69 * kGib, 4096};
  room.graph = kGib / 10, room.most_graphs = 256;
  EXPECT_EQ(room.graphs(), 5u);
  EXPECT_GE(room.for_cache(), room.sequence);
  room.sequence += kGib / 2;
  EXPECT_EQ(room.graphs(), 0u);
  EXPECT_EQ(room.for_cache(), room.sequence);
  EXPECT_EQ(refusal_of(room), "");
}

TEST(GpuRoom, CountsTheStepsThatMayComeAgain) {
  EXPECT_EQ(useful_graphs(1, 16, false), 6u);  // 1, 2, 4, 8, 16 and one more
  EXPECT_EQ(useful_graphs(2, 16, true), 24u);
  EXPECT_EQ(useful_graphs(256, 4096, false), 256u);
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
