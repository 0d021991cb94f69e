#pragma once
// What of a GPU's memory is left for the cache.

#include <cstddef>
#include <cstdint>

namespace flagscale::engine {

struct GpuRoom {
  size_t free = 0, total = 0;  // of the GPU, before anything is taken
  double share = 0.9;          // gpu_memory_utilization: of all that it has, by all who use it
  size_t model = 0;            // weights and a step's tensors
  size_t sequence = 0;         // cache of the longest one,
  int64_t length = 0;          // of this many tokens
  bool adapters = false;       // places for them are among the weights

  // Beside what the driver and our graphs take.
  size_t for_cache() const;
  // Throws Error{kResource} where a sequence does not find room: by how much, who has it, and what would
  // help.
  void require_sequence() const;
};

}  // namespace flagscale::engine
