#pragma once

#include <fmt/format.h>

#include <string>

#include "device/cuda/cuda.h"

namespace flagscale {

// What of the GPUs that FLAGSCALE_NEED_GPU says there must be is not here; "" where all are, or none need be.
inline std::string missing_gpus(const std::string& wanted) {
  if (wanted.empty() || wanted == "0") return {};
  const std::string asked = "FLAGSCALE_NEED_GPU=" + wanted + ": ";
  if (wanted.find_first_not_of("0123456789") != std::string::npos)
    return asked + "it is how many GPUs there must be";
  if (!cuda::built())
    return asked + "these tests have no kernels for a GPU; ./dev test --preset cuda builds them";
  if (!cuda::found().reason.empty()) return asked + "no GPU can be used: " + cuda::found().reason;
  const size_t gpus = cuda::found().gpus.size();
  return gpus < std::stoul(wanted) ? fmt::format("{}here {} {}", asked, gpus == 1 ? "is" : "are", gpus) : "";
}

}  // namespace flagscale
