#pragma once
// make_lanes() of a GPU.

#include "device/lanes.h"

namespace flagscale::cuda {

std::unique_ptr<Lanes> make_lanes(size_t marks);

}  // namespace flagscale::cuda
