#include "op/fp8_linear/fp8_rows.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "op/narrow_linear/narrow_weight.h"
#include "op/rms_norm/norm_rows.h"

namespace flagscale::op {

float round_to_fp8(const BF16* x, int64_t count, uint8_t* q) {
  float largest = 0;
  for (int64_t k = 0; k < count; ++k) largest = std::max(largest, std::fabs(to_float(x[k])));
  const float inverse = largest > 0 ? 448 / largest : 0;
  for (int64_t k = 0; k < count; ++k)
    q[k] = largest > 0 ? to_e4m3(std::clamp(to_float(x[k]) * inverse, -448.f, 448.f)) : 0;
  return largest / 448;
}

bool has_fp8_rms_norm(int64_t cols, DType dtype) { return dtype == DType::kBF16 && has_norm_rows(cols); }

Fp8RmsNorm fp8_rms_norm(Context& c, const Tensor& x, const Tensor& delta, const Tensor& weight, float eps) {
  const auto fits = [&](const Tensor& t) {
    return !t.defined() || (t.shape() == x.shape() && t.dtype() == x.dtype());
  };
  if (x.shape().rank() != 2 || weight.shape() != Shape{x.dim(1)} || weight.dtype() != x.dtype() ||
      !fits(delta) || !has_fp8_rms_norm(x.dim(1), x.dtype()))
    fail(ErrorKind::kInvalidArgument,
         "[fp8_rms_norm] x is {} {}, weight {}: expected rows of bf16, a multiple of {} and at most {} "
         "numbers, "
         "and delta as x",
         name(x.dtype()), x.shape().str(), weight.shape().str(), kNormPack, kMostNormSlices * kNormSlice);
  const int64_t rows = x.dim(0), in = x.dim(1),
                memory = (rows + kFp8RowsRead - 1) / kFp8RowsRead * kFp8RowsRead;
  Fp8Rows y{c.recorder.empty({memory, (in + 127) / 128 * 128}, DType::kU8, x.live()),
            c.recorder.empty({rows, (in + kFp8Numbers - 1) / kFp8Numbers}, DType::kF32, x.live()), in};
  if (!x.live()) y.numbers = y.numbers.rows(0, rows);
  const Tensor sum = delta.defined() ? c.recorder.empty(x.shape(), x.dtype(), x.live()) : Tensor();
  Fp8RmsNormArgs args{x, {}, weight, {}, y.numbers, y.scales, eps};
  if (delta.defined()) args.delta = delta, args.sum = sum;
  const auto bytes = static_cast<double>(x.bytes());
  c.recorder.launch(kFp8RmsNorm, args,
                    {4.0 * static_cast<double>(x.shape().numel()), bytes * (delta.defined() ? 3.5 : 1.5)});
  return {delta.defined() ? sum : x, y};
}

}  // namespace flagscale::op
