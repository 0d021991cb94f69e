#include "engine/gpu_room.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/does_not_fit.h"
#include "base/gib.h"
#include "device/cuda/cuda.h"

namespace flagscale::engine {

namespace {

size_t kept_free(const GpuRoom& r) {
  return static_cast<size_t>(static_cast<double>(r.total) * (1 - r.share));
}

size_t taken(const GpuRoom& r) { return kept_free(r) + cuda::kReserve + r.model; }

// Only what can help.
std::string way_out(const GpuRoom& r, size_t missing) {
  const double enough =
      std::ceil(100 * (r.share + static_cast<double>(missing) / static_cast<double>(r.total))) / 100;
  const std::string raise =
      enough < 0.995 ? fmt::format("raise gpu_memory_utilization to {:.2g}", enough) : "";
  if (!raise.empty() && r.free > 2 * (cuda::kReserve + r.model + r.sequence)) return raise;
  if (missing > r.model + r.sequence)
    return "end what else runs there" + (raise.empty() ? "" : ", or " + raise);
  return fmt::format("lower {}, or take fewer bits with quantization{}", r.lower,
                     raise.empty() ? "" : ", or " + raise);
}

}  // namespace

size_t GpuRoom::graphs() const {
  constexpr size_t kShare = 64;
  const size_t needed = taken(*this) + sequence;
  if (graph == 0 || free <= needed) return 0;
  return std::min(most_graphs, std::min(free - needed, total / kShare) / graph);
}

size_t GpuRoom::for_cache() const {
  const size_t all = taken(*this) + graphs() * graph;
  return free > all ? free - all : 0;
}

void GpuRoom::require_sequence() const {
  const size_t needed = taken(*this) + sequence;
  if (needed <= free) return;
  const size_t missing = needed - free;
  throw DoesNotFit(
      fmt::format("the GPU has {} of {} free{}, {} too little: weights and a step take {}, the cache of one "
                  "sequence of {} tokens {}, and gpu_memory_utilization={:g} leaves {} free; {}",
                  gib(free), gib(total), cuda::of_others(total - free), gib(missing), gib(model), length,
                  gib(sequence), share, gib(kept_free(*this)), way_out(*this, missing)));
}

// Measured with a training's: 4 to 6 KB a launch.
size_t graph_bytes(size_t launches) { return launches * (8 << 10); }

// Steps differ in how many sequences they have and by the power of two above the longest, and half of them
// may have an adapter.
size_t useful_graphs(int64_t sequences, int64_t length, bool adapters) {
  constexpr size_t kMost = 256;
  const auto lengths = static_cast<size_t>(std::bit_width(static_cast<uint64_t>(length)) + 1);
  return std::min(kMost, static_cast<size_t>(sequences) * lengths * (adapters ? 2 : 1));
}

}  // namespace flagscale::engine
