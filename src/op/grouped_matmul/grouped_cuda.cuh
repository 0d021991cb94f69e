#pragma once
// Where a grouped product's rows and pieces of work are, from counts that only the GPU knows: nothing comes
// back to the host, and a grid is as large whatever the routing.
#include "kernel/cuda/cuda.cuh"
#include "op/grouped_matmul/grouped_matmul.h"

namespace flagscale::op {

constexpr int kMostGroups = 1024;

// Of one product of the launch: [rows of e, k] by [k, n]; or, of sums, [m, rows of e] by [rows of e, n].
struct GroupSizes {
  int experts, m, n, k;  // m: of sums; k: of the others
  bool sums, trans_b, add;
};

// The block meets before it is read.
struct GroupTable {
  int rows[kMostGroups + 1];   // before each expert, and all
  int units[kMostGroups + 1];  // pieces of work before it
  template <class UnitsOf>     // by the first warp
  __device__ void fill(const int32_t* counts, int experts, UnitsOf&& units_of) {
    if (threadIdx.x >= 32) return;
    const int lane = static_cast<int>(threadIdx.x);
    int row = 0, unit = 0;
    if (lane == 0) rows[0] = 0, units[0] = 0;
    for (int first = 0; first < experts; first += 32) {
      const int count = first + lane < experts ? counts[first + lane] : 0;
      int r = count, u = first + lane < experts ? units_of(count) : 0;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int other_r = __shfl_up_sync(0xffffffffu, r, step),
                  other_u = __shfl_up_sync(0xffffffffu, u, step);
        if (lane >= step) r += other_r, u += other_u;
      }
      if (first + lane < experts) rows[first + lane + 1] = row + r, units[first + lane + 1] = unit + u;
      row += __shfl_sync(0xffffffffu, r, 31);
      unit += __shfl_sync(0xffffffffu, u, 31);
    }
  }
  // The first expert from `from` on that has this piece; experts where none has.
  __device__ int expert_of(int unit, int from, int experts) const {
    while (from < experts && units[from + 1] <= unit) ++from;
    return from;
  }
  __device__ int count(int expert) const { return rows[expert + 1] - rows[expert]; }
};

// Launches it, by whichever kernel.
void multiply_groups(const GroupedMatmulArgs& args);

// The same by Hopper's warpgroups, from bf16 rows that begin at multiples of 16 bytes. False, and nothing is
// launched, on another GPU or where it has no kernel for the sizes.
bool multiply_groups_by_warpgroups(const GroupedMatmulArgs& args, const GroupSizes& sizes);

// out = a b^T of bf16 in pieces of 16 bytes, the same bits, for few rows an expert: bound by reading the
// weights of those that have rows. False, and nothing is launched, for more rows than `most` or other types.
bool multiply_few_rows_of_groups(const GroupedMatmulArgs& args, const GroupSizes& sizes, int64_t most);

}  // namespace flagscale::op
