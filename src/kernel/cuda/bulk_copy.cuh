#pragma once
// Bulk copies of tiles to shared memory (Hopper's TMA) and the barriers that they complete on.

#include <cuda.h>
#include <cuda_runtime.h>

#include "kernel/cuda/tensor_cores.cuh"

namespace flagscale::cuda {

// A matrix of bf16 as the copy engine sees it: tiles of `tile_rows` (at most 256) by 64 numbers, laid out as
// a panel of warpgroup.cuh; zeros outside. Rows begin at multiples of 16 bytes.
CUtensorMap tiles_of(const void* data, int64_t rows, int64_t cols, int64_t stride, int tile_rows);

// Heads of `dim` columns in rows of bf16: tiles of `tile_rows` rows by 64 numbers of one head, zeros beyond
// the head.
CUtensorMap heads_of(const void* data, int64_t rows, int64_t heads, int64_t dim, int64_t stride,
                     int tile_rows);

// Bytes in rows of `pitch`, a multiple of 128, as panels of 128 columns: tiles of `tile_rows` rows of `steps`
// panels, one after the other.
CUtensorMap steps_of_tiles(const void* data, int64_t rows, int64_t pitch, int tile_rows, int steps);

// Heads of `lines` lines of `line` bytes, in pages; strides in bytes. A tile is a head: lines one after the
// other, pieces of 16 bytes swizzled by the line where it has 128 bytes, by every second one where it has 64.
CUtensorMap lines_of_pages(const void* data, int64_t pages, int64_t page_stride, int64_t heads,
                           int64_t head_stride, int lines, int line);

using Barrier = uint64_t;  // in shared memory

__device__ inline void init_barrier(Barrier* b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals));
}
// By the thread that made barriers, before others of the block meet.
__device__ inline void show_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void arrive(Barrier* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
__device__ inline void arrive_for_bytes(Barrier* b, int bytes) {  // the phase ends when they have come too
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes)
               : "memory");
}
__device__ inline void wait(Barrier* b, int parity) {  // until the phase of this parity has ended
  asm volatile(
      "{\n.reg .pred p;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra done;\n"
      "bra again;\ndone:\n}\n" ::"r"(shared_address(b)),
      "r"(parity)
      : "memory");
}
// The tile whose first number is at (row, column) of the matrix; map: a __grid_constant__ argument.
__device__ inline void copy_tile(void* to, const CUtensorMap& map, int row, int column, Barrier* b) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
      "[%4];" ::"r"(shared_address(to)),
      "l"(&map), "r"(column), "r"(row), "r"(shared_address(b))
      : "memory");
}

// The same by kBlocks blocks of a cluster: the tile and its bytes come to the same places in each of them.
template <int kBlocks>
__device__ inline void copy_tile_to_all(void* to, const CUtensorMap& map, int row, int column, Barrier* b) {
  if constexpr (kBlocks == 1) {
    copy_tile(to, map, row, column, b);
  } else {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1, "
        "{%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
        "l"(&map), "r"(column), "r"(row), "r"(shared_address(b)),
        "h"(static_cast<uint16_t>((1 << kBlocks) - 1))
        : "memory");
  }
}
// arrive() at another block's barrier of the cluster, at the same place as ours.
__device__ inline void arrive_at_block(Barrier* b, unsigned block) {
  asm volatile(
      "{\n.reg .b32 a;\nmapa.shared::cluster.u32 a, %0, %1;\nmbarrier.arrive.shared::cluster.b64 _, "
      "[a];\n}\n" ::"r"(shared_address(b)),
      "r"(block)
      : "memory");
}
// The same of one head.
__device__ inline void copy_tile_of_head(void* to, const CUtensorMap& map, int row, int head, int column,
                                         Barrier* b) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], "
      "[%5];" ::"r"(shared_address(to)),
      "l"(&map), "r"(column), "r"(head), "r"(row), "r"(shared_address(b))
      : "memory");
}

// A head of a page.
__device__ inline void copy_lines(void* to, const CUtensorMap& map, int page, int head, Barrier* b) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %2, %3, "
      "%4}], [%5];" ::"r"(shared_address(to)),
      "l"(&map), "r"(0), "r"(head), "r"(page), "r"(shared_address(b))
      : "memory");
}
// Bytes as they lie, in multiples of 16 from a multiple of 16.
__device__ inline void copy_bytes(void* to, const void* from, int bytes, Barrier* b) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(b))
      : "memory");
}

// The same of several panels, from the `step`'th.
__device__ inline void copy_tile_of_steps(void* to, const CUtensorMap& map, int row, int step, Barrier* b) {
  copy_tile_of_head(to, map, step, row, 0, b);
}

// Neighbouring floats of shared memory over those of global memory, or added to them one by one; bytes, and
// both addresses: multiples of 16.
__device__ inline void put_floats(float* to, const float* from, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to),
               "r"(shared_address(from)), "r"(bytes)
               : "memory");
}
__device__ inline void add_floats(float* to, const float* from, int bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to),
               "r"(shared_address(from)), "r"(bytes)
               : "memory");
}
// The thread's own, all of them: until shared memory is read; until global memory is written.
__device__ inline void commit_puts() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
__device__ inline void wait_for_reads_of_puts() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
__device__ inline void wait_for_puts() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

}  // namespace flagscale::cuda
