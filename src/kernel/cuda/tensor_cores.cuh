#pragma once
// Products of bf16 tiles on tensor cores by one warp: mma.m16n8k16 (PTX ISA, "Matrix fragments for
// mma.m16n8k16"), operands from shared memory by ldmatrix, sums in fp32.
//
// A warp's sum of 16 x 8 lies in four registers of each lane: rows lane / 4 and lane / 4 + 8, columns 2 (lane
// % 4) and the next one.

#include <cuda_bf16.h>

#include <cstdint>

namespace flagscale::cuda {

using Fragment = uint32_t[4];  // of the left factor, 16 x 16

// Rows of a tile in shared memory are this many numbers apart: an odd count of 16-byte pieces, so that eight
// rows fall on different banks.
template <int D>
constexpr int kPitchOf = D + 8;

__device__ inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

__device__ inline void load_matrices(uint32_t (&r)[4], const void* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(p)));
}
__device__ inline void load_matrices_transposed(uint32_t (&r)[4], const __nv_bfloat16* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(p)));
}

// The reverse of load_matrices: lane l names row l % 8 of matrix l / 8.
__device__ inline void store_matrices(void* p, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared_address(p)),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

// The left factor: rows [row, row + 16), columns [column, column + 16) of a tile.
__device__ inline void load_left(Fragment& a, const __nv_bfloat16* tile, int pitch, int row, int column,
                                 int lane) {
  load_matrices(a, tile + (row + lane % 16) * pitch + column + lane / 16 * 8);
}
// Two right factors of 16 x 8 each from a tile whose rows are the product's columns: columns [row, row + 16)
// of the product, summed over the tile's columns [column, column + 16).
__device__ inline void load_right(uint32_t (&b)[4], const __nv_bfloat16* tile, int pitch, int row, int column,
                                  int lane) {
  load_matrices(b, tile + (row + lane % 8 + lane / 16 * 8) * pitch + column + lane / 8 % 2 * 8);
}
// The same from a tile whose rows are summed over: [row, row + 16); columns [column, column + 16) of the
// product.
__device__ inline void load_right_transposed(uint32_t (&b)[4], const __nv_bfloat16* tile, int pitch, int row,
                                             int column, int lane) {
  load_matrices_transposed(b, tile + (row + lane % 16) * pitch + column + lane / 16 * 8);
}

__device__ inline void multiply_add(float (&c)[4], const Fragment& a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline uint32_t pair_of(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// Two neighbouring sums of 16 x 8, rounded, as a left factor of the next product.
__device__ inline void as_left(Fragment& a, const float (&first)[4], const float (&second)[4]) {
  a[0] = pair_of(first[0], first[1]);
  a[1] = pair_of(first[2], first[3]);
  a[2] = pair_of(second[0], second[1]);
  a[3] = pair_of(second[2], second[3]);
}

// Starts copying the first `bytes` of 16 to shared memory; the others become zeros.
__device__ inline void copy_part_of_16(void* to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(bytes));
}
__device__ inline void copy_16_bytes(void* to, const void* from, bool there) {
  copy_part_of_16(to, from, there ? 16 : 0);
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;"); }
template <int kLeft>
__device__ inline void wait_for_copies() {  // all but the last kLeft groups
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft));
}

}  // namespace flagscale::cuda
