#pragma once
// cuBLASLt, opened at run time (libcublasLt.so.13, then .12 of 12.9 or newer): products of row-major
// matrices.

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/fp8.h"

namespace flagscale::cuda {

// A factor of fp8 numbers (Product::in is kU8) and where its fp32 scales lie: kTensor one, kRow128
// [k / 128, rows], kSquare128 [rows / 128, k / 128], rows to a multiple of four.
struct Fp8Side {
  Fp8 format;
  Fp8Scales shared;
  const void* scales;
};

// c (+)= op(a) op(b) + bias; a, b, c row-major with strides in numbers, rows beginning at multiples of 16
// bytes.
struct Product {
  const void *a, *b, *bias;  // bias [n] of a's type, of fp8's bf16, or null
  void* c;
  int64_t m, n, k, a_stride, b_stride, c_stride;
  bool trans_a, trans_b, add;
  DType in, out;             // of a and b; of c. Sums are fp32 without rounding of fp32 factors.
  Fp8Side a_fp8{}, b_fp8{};  // with kU8, where trans_b is true and trans_a false
};

constexpr size_t kOldestCublas = 120900;  // which has scales of blocks

// The library, opened once. Throws Error{kUnsupported} where it is missing or older: whoever will multiply
// asks before anything is read.
void* cublas_library();

constexpr size_t kProductWorkspace = (size_t{32} << 20) + 256;  // of any alignment

// Launches it. The algorithm is the fastest of those that cuBLASLt offers for the shape with the bits of its
// first choice: large products are timed when they are first met, on the memory given, and waited for, unless
// an earlier run did (product_table.h). Throws Error{kUnsupported} where the library is missing or has no way
// to do it.
void multiply(const Product& product, void* workspace);

// For tests: among how many algorithms multiply() chooses, and the product by one of them, 0 being cuBLASLt's
// first choice. False where it does not run, as for some it does not.
int product_choices(const Product& product);
bool multiply_by(int choice, const Product& product, void* workspace);

}  // namespace flagscale::cuda
