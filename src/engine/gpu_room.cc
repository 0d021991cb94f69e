#include "engine/gpu_room.h"

#include <fmt/format.h>

#include <cmath>

#include "base/does_not_fit.h"
#include "base/gib.h"
#include "device/cuda/cuda.h"

namespace flagscale::engine {

namespace {

constexpr size_t kReserve = size_t{512} << 20;

size_t kept_free(const GpuRoom& r) {
  return static_cast<size_t>(static_cast<double>(r.total) * (1 - r.share));
}

// Only what can help.
std::string way_out(const GpuRoom& r, size_t missing) {
  if (missing > r.model + r.sequence) return "end what else runs there";
  const double enough =
      r.share + std::ceil(100 * static_cast<double>(missing) / static_cast<double>(r.total)) / 100;
  return fmt::format("lower max_model_len{} or max_num_batched_tokens, or take fewer bits with quantization",
                     r.adapters ? ", max_loras" : "") +
         (enough < 0.995 ? fmt::format(", or raise gpu_memory_utilization to {:.2g}", enough) : "");
}

}  // namespace

size_t GpuRoom::for_cache() const {
  const size_t taken = kept_free(*this) + kReserve + model;
  return free > taken ? free - taken : 0;
}

void GpuRoom::require_sequence() const {
  if (for_cache() >= sequence) return;
  const size_t missing = kept_free(*this) + kReserve + model + sequence - free;
  throw DoesNotFit(
      fmt::format("the GPU has {} of {} free{}, {} too little: weights and a step take {}, the cache of one "
                  "sequence of {} tokens {}, and gpu_memory_utilization={:g} leaves {} free; {}",
                  gib(free), gib(total), cuda::of_others(total - free), gib(missing), gib(model), length,
                  gib(sequence), share, gib(kept_free(*this)), way_out(*this, missing)));
}

}  // namespace flagscale::engine
