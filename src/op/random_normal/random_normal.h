#pragma once
// Normal variates from Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011),
// keyed by what a number is for and never by who draws it or when: element e of a tensor is a function of
// (seed, stream, e) alone, so any slice of it can be made by any rank.

#include <cstdint>
#include <string_view>
#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

struct RandomNormalArgs {
  Out out;  // fp32, contiguous
  uint64_t seed;
  uint64_t stream;  // random_stream() of the purpose and the logical name
  int64_t first;    // global index of out's first element, a multiple of 4
  float mean, std;
  auto operands() { return std::tie(out); }
};
inline constinit KernelSlot<RandomNormalArgs> kRandomNormal{"random_normal"};

// FNV-1a over "purpose:name".
uint64_t random_stream(std::string_view purpose, std::string_view name);

}  // namespace flagscale::op
