#pragma once
// Products of bf16 (and e4m3) tiles on tensor cores by a warpgroup, four warps: wgmma.m64nNk16 of Hopper
// (sm_90a), fp32 sums, which are the bits of mma.m16n8k16 over the same 16 numbers. Factors lie in shared
// memory in panels of 64 columns: rows of 128 bytes, their 16-byte pieces swizzled by the row, panels on
// boundaries of 1 kB; the left one may be in registers.
//
// Sums: as tensor_cores.cuh's, warp w of the group has rows 16 w to 16 w + 15.

#include "kernel/cuda/tensor_cores.cuh"

// Defined in code compiled for Hopper; elsewhere its kernels only end the program, and are never launched.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define FLAGSCALE_HOPPER
#endif

namespace flagscale::cuda {

// Whether the calling thread's GPU is of that kind.
bool on_hopper();

constexpr int kPanelColumns = 64;

// Where piece `piece` (of 8 numbers) of a row lies in a panel, in numbers.
__device__ inline int in_panel(int row, int piece) { return row * kPanelColumns + (piece ^ row % 8) * 8; }

// Factor whose columns are summed over: rows [0, 64 or N) of a panel, 16 columns from `column`. In a cluster
// addresses name the block above the bits of a place in its memory, which are all that belongs here.
__device__ inline uint64_t across(const __nv_bfloat16* panel, int column) {
  constexpr uint64_t kSwizzle = uint64_t{1} << 62, kEightRows = 8 * 128;
  return uint64_t{((shared_address(panel) + static_cast<uint32_t>(column) * 2) & 0x3ffff) >> 4} |
         kEightRows >> 4 << 32 | kSwizzle;
}
// Factor whose rows are summed over: 16 rows from `row` (a multiple of 8), columns of panels `pitch` bytes
// apart.
__device__ inline uint64_t down(const __nv_bfloat16* panel, int row, int pitch) {
  return across(panel + row * kPanelColumns, 0) | uint64_t{static_cast<uint32_t>(pitch)} >> 4 << 16;
}

// The factor that lies `numbers` further, a multiple of 8: columns [0, 64) of a row, or whole rows and
// panels.
__device__ inline uint64_t after(uint64_t factor, int numbers) {
  const uint32_t place = static_cast<uint32_t>(factor) + static_cast<uint32_t>(numbers) * 2 / 16;
  return (factor & 0xffffffff00000000) | place;
}

// Before the first product of a batch that uses registers written by others, and after it.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kLeft>
__device__ inline void wait_for_products() {  // all but the last kLeft batches
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}
// Sums are read after the wait, not before.
template <int kBlocks>
__device__ inline void settle(float (&sum)[kBlocks][4]) {
#pragma unroll
  for (int j = 0; j < kBlocks; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(sum[j][i])::"memory");
}
// Of sums that were made pairs of bf16: four lanes share a row, and each gives three of its four pairs of
// columns for those of one block of eight.
__device__ inline void gather_eights(uint32_t (&r)[4], int lane) {
#pragma unroll
  for (int step = 1; step <= 2; step *= 2)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & step) continue;
      const bool odd = lane & step;
      const uint32_t other = __shfl_xor_sync(0xffffffffu, odd ? r[i] : r[i + step], step);
      (odd ? r[i] : r[i + step]) = other;
    }
}

// The threads of a warpgroup, one of a block's.
__device__ inline void meet_warpgroup(int group) {
  asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
}
// What threads wrote to shared memory is seen by products and bulk copies after the next barrier.
__device__ inline void show_to_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// multiply<kDown>(sum, left, right, keep): sum = (keep ? sum : 0) + left right, 64 x N x 16. left: across(),
// down() where kLeftDown, or a fragment of each warp's 16 rows; right: across(), or down() where kDown.
#define FLAGSCALE_SUMS4(j) "+f"(sum[j][0]), "+f"(sum[j][1]), "+f"(sum[j][2]), "+f"(sum[j][3])
#define FLAGSCALE_SUMS16(j) \
  FLAGSCALE_SUMS4(j), FLAGSCALE_SUMS4(j + 1), FLAGSCALE_SUMS4(j + 2), FLAGSCALE_SUMS4(j + 3)
#define FLAGSCALE_PRODUCTS(N, SUMS, LIST, P0, P1, P2, P3, P4, P5, P6)                                   \
  template <bool kDown, bool kLeftDown = false>                                                         \
  __device__ __forceinline__ void multiply(float(&sum)[N / 8][4], uint64_t left, uint64_t right,        \
                                           bool keep) {                                                 \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " P2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N    \
                 "k16.f32.bf16.bf16 {" LIST "}, " P0 ", " P1 ", p, 1, 1, " P4 ", " P3 ";\n}\n"          \
                 : SUMS                                                                                 \
                 : "l"(left), "l"(right), "r"(int{keep}), "n"(int{kDown}), "n"(int{kLeftDown}));        \
  }                                                                                                     \
  template <bool kDown>                                                                                 \
  __device__ __forceinline__ void multiply(float(&sum)[N / 8][4], const Fragment& left, uint64_t right, \
                                           bool keep) {                                                 \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " P5 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N    \
                 "k16.f32.bf16.bf16 {" LIST "}, {" P0 ", " P1 ", " P2 ", " P3 "}, " P4 ", p, 1, 1, " P6 \
                 ";\n}\n"                                                                               \
                 : SUMS                                                                                 \
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right), "r"(int{keep}),  \
                   "n"(int{kDown}));                                                                    \
  }
#define FLAGSCALE_LIST16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define FLAGSCALE_LIST32 FLAGSCALE_LIST16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define FLAGSCALE_LIST48 FLAGSCALE_LIST32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define FLAGSCALE_LIST56 FLAGSCALE_LIST48 ",%48,%49,%50,%51,%52,%53,%54,%55"
#define FLAGSCALE_LIST64 FLAGSCALE_LIST56 ",%56,%57,%58,%59,%60,%61,%62,%63"
#define FLAGSCALE_LIST80 FLAGSCALE_LIST64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"
#define FLAGSCALE_LIST96 FLAGSCALE_LIST80 ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define FLAGSCALE_SUMS32(j) FLAGSCALE_SUMS16(j), FLAGSCALE_SUMS16(j + 4)
FLAGSCALE_PRODUCTS(32, FLAGSCALE_SUMS16(0), FLAGSCALE_LIST16, "%16", "%17", "%18", "%19", "%20", "%21", "%22")
FLAGSCALE_PRODUCTS(64, FLAGSCALE_SUMS32(0), FLAGSCALE_LIST32, "%32", "%33", "%34", "%35", "%36", "%37", "%38")
#define FLAGSCALE_SUMS64 FLAGSCALE_SUMS32(0), FLAGSCALE_SUMS32(8)
FLAGSCALE_PRODUCTS(128, FLAGSCALE_SUMS64, FLAGSCALE_LIST64, "%64", "%65", "%66", "%67", "%68", "%69", "%70")
#define FLAGSCALE_SUMS80 FLAGSCALE_SUMS64, FLAGSCALE_SUMS16(16)
#define FLAGSCALE_SUMS96 FLAGSCALE_SUMS80, FLAGSCALE_SUMS16(20)
FLAGSCALE_PRODUCTS(192, FLAGSCALE_SUMS96, FLAGSCALE_LIST96, "%96", "%97", "%98", "%99", "%100", "%101",
                   "%102")
#define FLAGSCALE_LIST128                                                                                  \
  FLAGSCALE_LIST96                                                                                         \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116," \
  "%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define FLAGSCALE_SUMS128 FLAGSCALE_SUMS96, FLAGSCALE_SUMS32(24)
FLAGSCALE_PRODUCTS(256, FLAGSCALE_SUMS128, FLAGSCALE_LIST128, "%128", "%129", "%130", "%131", "%132", "%133",
                   "%134")
#undef FLAGSCALE_SUMS128
#undef FLAGSCALE_LIST128

// multiply_fp8(sum, left, right, keep): the same over 32 numbers of e4m3, which lie as 16 of bf16 do.
#define FLAGSCALE_FP8_PRODUCTS(N, SUMS, LIST, P0, P1, P2)                                            \
  __device__ __forceinline__ void multiply_fp8(float(&sum)[N / 8][4], uint64_t left, uint64_t right, \
                                               bool keep) {                                          \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " P2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N \
                 "k32.f32.e4m3.e4m3 {" LIST "}, " P0 ", " P1 ", p, 1, 1;\n}\n"                       \
                 : SUMS                                                                              \
                 : "l"(left), "l"(right), "r"(int{keep}));                                           \
  }
FLAGSCALE_FP8_PRODUCTS(8, FLAGSCALE_SUMS4(0), "%0,%1,%2,%3", "%4", "%5", "%6")
#define FLAGSCALE_SUMS8 FLAGSCALE_SUMS4(0), FLAGSCALE_SUMS4(1)
FLAGSCALE_FP8_PRODUCTS(16, FLAGSCALE_SUMS8, "%0,%1,%2,%3,%4,%5,%6,%7", "%8", "%9", "%10")
#undef FLAGSCALE_SUMS8
FLAGSCALE_FP8_PRODUCTS(32, FLAGSCALE_SUMS16(0), FLAGSCALE_LIST16, "%16", "%17", "%18")
FLAGSCALE_FP8_PRODUCTS(64, FLAGSCALE_SUMS32(0), FLAGSCALE_LIST32, "%32", "%33", "%34")
#define FLAGSCALE_SUMS48 FLAGSCALE_SUMS32(0), FLAGSCALE_SUMS16(8)
FLAGSCALE_FP8_PRODUCTS(96, FLAGSCALE_SUMS48, FLAGSCALE_LIST48, "%48", "%49", "%50")
#define FLAGSCALE_SUMS56 FLAGSCALE_SUMS48, FLAGSCALE_SUMS4(12), FLAGSCALE_SUMS4(13)
FLAGSCALE_FP8_PRODUCTS(112, FLAGSCALE_SUMS56, FLAGSCALE_LIST56, "%56", "%57", "%58")
FLAGSCALE_FP8_PRODUCTS(128, FLAGSCALE_SUMS64, FLAGSCALE_LIST64, "%64", "%65", "%66")
FLAGSCALE_FP8_PRODUCTS(160, FLAGSCALE_SUMS80, FLAGSCALE_LIST80, "%80", "%81", "%82")
FLAGSCALE_FP8_PRODUCTS(192, FLAGSCALE_SUMS96, FLAGSCALE_LIST96, "%96", "%97", "%98")
#undef FLAGSCALE_FP8_PRODUCTS
#undef FLAGSCALE_SUMS96
#undef FLAGSCALE_LIST96
#undef FLAGSCALE_SUMS80
#undef FLAGSCALE_LIST80
#undef FLAGSCALE_SUMS64
#undef FLAGSCALE_LIST64
#undef FLAGSCALE_SUMS56
#undef FLAGSCALE_LIST56
#undef FLAGSCALE_SUMS48
#undef FLAGSCALE_LIST48
#undef FLAGSCALE_SUMS32
#undef FLAGSCALE_LIST32
#undef FLAGSCALE_LIST16
#undef FLAGSCALE_PRODUCTS
#undef FLAGSCALE_SUMS16
#undef FLAGSCALE_SUMS4

}  // namespace flagscale::cuda
