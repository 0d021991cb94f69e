#pragma once
// Training's products of fp8 numbers, by Transformer Engine's two recipes for Hopper: Float8CurrentScaling (a
// scale for each tensor, of its largest magnitude now) and Float8BlockScaling (a scale for 128 neighbours
// along the sum, of activations and gradients, and for 128 x 128 numbers of a weight). Sums are fp32.
//
// A tensor core wants both factors to lie along the sum, so what takes part in two products is rounded once
// for each, from bf16: as it lies and transposed. Forward y = x W^T, backward dx = dy W and dW = dy^T x.

#include <string>
#include <tuple>

#include "autograd/context.h"
#include "tensor/fp8.h"

namespace flagscale::op {

enum class Fp8Recipe : uint8_t { kTensorwise, kBlockwise };
const char* name(Fp8Recipe recipe);  // "tensorwise", "blockwise"

struct Fp8Training {
  Fp8Recipe recipe = Fp8Recipe::kTensorwise;
  Fp8 gradients = Fp8::kE5M2;  // dy's numbers; all others are e4m3. Megatron's hybrid, or e4m3.
};

// A number is its scale times q; a scale is 1 / fp8_factor().
struct Fp8RoundArgs {
  In x;               // [m, n] bf16, row-strided
  Out rows, columns;  // uint8: [m, n], and [n, m], x transposed; one of the two may be undefined
  // fp32. kTensor: row_scales [1] is that of both. Else, where there are the numbers: kRow128 [n / 128, m]
  // and [m / 128, n]; kSquare128 [m / 128, n / 128] and [n / 128, m / 128], rows to a multiple of 4.
  Out row_scales, column_scales;
  Fp8 format;
  Fp8Scales scales;
  const int64_t* keep = nullptr;  // not null, and not 0 when the kernel runs: all is as it should be already
  In largest{};                   // kTensor: of x, as largest.h has it; undefined: the kernel looks for it
  auto operands() { return std::tie(x, rows, columns, row_scales, column_scales, largest); }
};
inline constinit KernelSlot<Fp8RoundArgs> kFp8Round{"fp8_round"};

// y = x transposed, of numbers of a byte; sizes are multiples of 16.
struct Fp8TransposeArgs {
  In x;   // uint8 [m, n]
  Out y;  // uint8 [n, m]
  auto operands() { return std::tie(x, y); }
};
inline constinit KernelSlot<Fp8TransposeArgs> kFp8Transpose{"fp8_transpose"};

// A factor's numbers along the sum, [rows, k], and its scales.
struct Fp8Factor {
  Tensor q, scales;
  Fp8 format = Fp8::kE4M3;
  Fp8Scales shared = Fp8Scales::kTensor;
  bool defined() const { return q.defined(); }
};

struct Fp8ProductArgs {
  In a, a_scales, b, b_scales;  // [m, k], [n, k]
  Out out;                      // a b^T [m, n] bf16; or
  InOut sum;                    // [m, n] fp32: exactly one of the two is defined
  In bias;                      // [n] bf16, added to every row of out, or undefined
  Fp8 a_format, b_format;
  Fp8Scales a_shared, b_shared;
  const int64_t* accumulate = nullptr;  // sum: null or not 0 adds, 0 overwrites
  auto operands() { return std::tie(a, a_scales, b, b_scales, out, sum, bias); }
};
inline constinit KernelSlot<Fp8ProductArgs> kFp8Product{"fp8_product"};

// A weight [out, in] as the two products take it: along `in`, and transposed along `out`. One that is held
// once has no numbers of the latter, but scales: they are transposed for each product.
struct Fp8Weight {
  Fp8Training training;
  Fp8Factor forward, backward;
  bool defined() const { return forward.defined(); }
  // Whether what is multiplied with it has a scale for the whole tensor, of its largest magnitude.
  bool measures() const { return defined() && training.recipe == Fp8Recipe::kTensorwise; }
};

// The sizes of a product are multiples of this.
constexpr int64_t fp8_multiple(Fp8Recipe recipe) { return recipe == Fp8Recipe::kTensorwise ? 16 : 128; }

// make(shape, dtype) gives the memory; once: as Fp8Weight says. Throws Error{kUnsupported} naming the weight
// where its sizes are no multiples.
Fp8Weight make_fp8_weight(const std::string& name, const Shape& weight, Fp8Training training,
                          const std::function<Tensor(const Shape&, DType)>& make, bool once = false);

// keep: see Fp8RoundArgs.
void round_fp8_weight(Recorder& recorder, const Tensor& weight, const Fp8Weight& rounded,
                      const int64_t* keep = nullptr);

// y = x W^T + bias: x [rows, in] bf16, `rounded` the weight's numbers, bias [out] or undefined. weight: bf16,
// whose gradient is summed as op::linear's, or undefined: frozen. Of x the backward pass keeps fp8 numbers
// alone, and of a frozen weight's none. largest: of x, where it is known (largest.h).
Tensor fp8_training_linear(Context& context, const Tensor& x, const Tensor& weight, const Fp8Weight& rounded,
                           const Tensor& bias, const Tensor& largest = {});

}  // namespace flagscale::op
