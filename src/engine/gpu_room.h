#pragma once
// What of a GPU's memory is left for the cache, and for graphs of steps.

#include <cstddef>
#include <cstdint>
#include <string>

namespace flagscale::engine {

struct GpuRoom {
  size_t free = 0, total = 0;           // of the GPU, before anything is taken
  double share = 0.9;                   // gpu_memory_utilization: of all that it has, by all who use it
  size_t model = 0;                     // weights and a step's tensors
  size_t sequence = 0;                  // cache of the longest one,
  int64_t length = 0;                   // of this many tokens
  std::string lower = "max_model_len";  // what makes less of it, in the words of who asked
  size_t graph = 0, most_graphs = 0;    // of one step; how many are of use

  // How many graphs are kept: they give way to one sequence, and take no large share of a small GPU.
  size_t graphs() const;
  // Beside those and what the driver takes.
  size_t for_cache() const;
  // Throws Error{kResource} where a sequence does not find room: by how much, who has it, and what would
  // help.
  void require_sequence() const;
};

// GpuRoom::graph of a step of so many launches.
size_t graph_bytes(size_t launches);
// GpuRoom::most_graphs where steps have up to `sequences` of up to `length` tokens.
size_t useful_graphs(int64_t sequences, int64_t length, bool adapters);

}  // namespace flagscale::engine
