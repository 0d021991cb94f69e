#pragma once
// Rows in tiles of at most kMost, as even as possible, for *_cpu.cc files.

#include <cstdint>

#include "kernel/simd.h"

namespace flagscale::op::FLAGSCALE_ISA {

struct Tiles {
  int64_t rows, count;
  Tiles(int64_t rows_, int64_t most) : rows(rows_), count((rows_ + most - 1) / most) {}
  int64_t first(int64_t tile) const { return tile * rows / count; }  // row of a tile; of `count`: rows
};

}  // namespace flagscale::op::FLAGSCALE_ISA
