#include "kernel/cuda/bulk_copy.cuh"
#include "kernel/cuda/errors.h"

namespace flagscale::cuda {

namespace {

auto encoder() {
  static const auto found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault,
                                         &result) != cudaSuccess ||
        !function)
      not_run_here("copy_tile", "the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  return found;
}

// A tensor of `rank` sizes, the first the innermost; strides in bytes.
CUtensorMap encode(const void* data, unsigned rank, const cuuint64_t* sizes, const cuuint64_t* strides,
                   const cuuint32_t* box, CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B) {
  CUtensorMap map{};
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  if (encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank, const_cast<void*>(data), sizes, strides, box,
                steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
    not_run_here("copy_tile", "the driver refused a matrix");
  return map;
}

cuuint64_t bytes(int64_t numbers) { return static_cast<cuuint64_t>(numbers) * sizeof(uint16_t); }

}  // namespace

CUtensorMap tiles_of(const void* data, int64_t rows, int64_t cols, int64_t stride, int tile_rows) {
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(rows)},
                   strides[] = {bytes(stride)};
  const cuuint32_t box[] = {64, static_cast<cuuint32_t>(tile_rows)};
  return encode(data, 2, sizes, strides, box);
}

CUtensorMap heads_of(const void* data, int64_t rows, int64_t heads, int64_t dim, int64_t stride,
                     int tile_rows) {
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(dim), static_cast<cuuint64_t>(heads),
                              static_cast<cuuint64_t>(rows)},
                   strides[] = {bytes(dim), bytes(stride)};
  const cuuint32_t box[] = {64, 1, static_cast<cuuint32_t>(tile_rows)};
  return encode(data, 3, sizes, strides, box);
}

CUtensorMap steps_of_tiles(const void* data, int64_t rows, int64_t pitch, int tile_rows, int steps) {
  const cuuint64_t sizes[] = {64, static_cast<cuuint64_t>(rows), static_cast<cuuint64_t>(pitch / 128)},
                   strides[] = {static_cast<cuuint64_t>(pitch), 128};
  const cuuint32_t box[] = {64, static_cast<cuuint32_t>(tile_rows), static_cast<cuuint32_t>(steps)};
  return encode(data, 3, sizes, strides, box);
}

CUtensorMap lines_of_pages(const void* data, int64_t pages, int64_t page_stride, int64_t heads,
                           int64_t head_stride, int lines, int line) {
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(line / 2), static_cast<cuuint64_t>(lines),
                              static_cast<cuuint64_t>(heads), static_cast<cuuint64_t>(pages)},
                   strides[] = {static_cast<cuuint64_t>(line), static_cast<cuuint64_t>(head_stride),
                                static_cast<cuuint64_t>(page_stride)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(line / 2), static_cast<cuuint32_t>(lines), 1, 1};
  return encode(data, 4, sizes, strides, box,
                line == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
                : line == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                             : CU_TENSOR_MAP_SWIZZLE_NONE);
}

}  // namespace flagscale::cuda
