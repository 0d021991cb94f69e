#pragma once
// Rows in tiles of at most kMost, as even as possible, for *_cpu.cc files.

#include <cstdint>

#include "kernel/simd.h"

namespace flagscale::op::FLAGSCALE_ISA {

class Tiles {
 public:
  const int64_t rows, count;
  Tiles(int64_t rows_, int64_t most)
      : rows(rows_),
        count((rows_ + most - 1) / most),
        height_(count > 0 ? rows / count : 0),
        taller_(rows - count * height_) {}
  // The row at which a tile begins; `count`'s: rows.
  int64_t first(int64_t tile) const { return tile * height_ + (tile < taller_ ? tile : taller_); }

 private:
  int64_t height_, taller_;  // the first `taller_` have a row more
};

}  // namespace flagscale::op::FLAGSCALE_ISA
