#pragma once
// Rows that are rounded to e4m3 numbers for fp8_linear, and norms that write them: where products are all
// that reads a norm's result, it is never written in bf16. The numbers are those that rounding the bf16
// result gives, to the bit.

#include <tuple>

#include "autograd/context.h"

namespace flagscale::op {

// Also how long a sum of e4m3 products is, which Hopper's tensor cores add in some 14 bits, before it is
// added to the others in fp32.
constexpr int64_t kFp8Numbers = 1024;

constexpr int64_t kFp8RowsRead = 256;  // memory has rows to a multiple of it, of which products read any

struct Fp8Rows {
  Tensor numbers;  // [rows, in to a multiple of 128] e4m3 as uint8, zeros beyond in
  Tensor scales;   // [rows, slices] fp32, one for kFp8Numbers neighbours
  int64_t in = 0;
  bool defined() const { return numbers.defined(); }
};

// At most kFp8Numbers neighbours: their scale, largest magnitude / 448, and q = e4m3(x * (448 / largest)).
float round_to_fp8(const BF16* x, int64_t count, uint8_t* q);

struct Fp8RmsNormArgs {
  In x, delta, weight;  // [rows, cols] bf16, row-strided; delta: undefined, or added to x; [cols]
  Out sum;              // [rows, cols], defined with delta
  Out numbers, scales;  // as Fp8Rows
  float eps;
  auto operands() { return std::tie(x, delta, weight, sum, numbers, scales); }
};
inline constinit KernelSlot<Fp8RmsNormArgs> kFp8RmsNorm{"fp8_rms_norm"};

// Rows that the norm can write: others are refused.
bool has_fp8_rms_norm(int64_t cols, DType dtype);

struct Fp8RmsNorm {
  Tensor sum;  // x, where there is no delta
  Fp8Rows y;
};
// add_rms_norm or, where delta is undefined, rms_norm (op/rms_norm), then rounding. No gradient: serving
// only.
Fp8RmsNorm fp8_rms_norm(Context& context, const Tensor& x, const Tensor& delta, const Tensor& weight,
                        float eps);

}  // namespace flagscale::op
