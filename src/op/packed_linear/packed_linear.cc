#include "op/packed_linear/packed_linear.h"

#include "base/check.h"
#include "base/error.h"

namespace flagscale::op {

Shape packed_shape(int64_t out, int64_t in) { return {(out + kPanel - 1) / kPanel, in, kPanel}; }

namespace {

template <class To, class From, class Convert>
void pack(const Tensor& packed, int64_t first, int64_t count, const From* rows, Convert convert) {
  const int64_t in = packed.dim(1);
  To* out = packed.data<To>();
  for (int64_t r = first; r < first + count; ++r, rows += in) {
    To* column = out + r / kPanel * in * kPanel + r % kPanel;
    for (int64_t k = 0; k < in; ++k) column[k * kPanel] = convert(rows[k]);
  }
}

}  // namespace

void pack_rows(const Tensor& packed, int64_t first, int64_t count, const float* rows) {
  if (packed.dtype() == DType::kBF16) pack<BF16>(packed, first, count, rows, [](float x) { return to_bf16(x); });
  else pack<float>(packed, first, count, rows, [](float x) { return x; });
}

void pack_rows(const Tensor& packed, int64_t first, int64_t count, const BF16* rows) {
  FLAGSCALE_CHECK(packed.dtype() == DType::kBF16);
  pack<BF16>(packed, first, count, rows, [](BF16 x) { return x; });
}

Tensor packed_linear(Context& c, const Tensor& x, const Tensor& packed, int64_t out, const Tensor& bias) {
  const bool good = x.shape().rank() == 2 && packed.shape() == packed_shape(out, x.dim(1)) && x.dtype() == DType::kF32 &&
                    (!bias.defined() || bias.shape() == Shape{out});
  if (!good)
    fail(ErrorKind::kInvalidArgument, "[packed_linear] x is {} {}, packed {}, {} outputs", name(x.dtype()), x.shape().str(),
         packed.shape().str(), out);
  const Tensor y = c.recorder.empty({x.dim(0), out}, DType::kF32, x.live());
  PackedLinearArgs args{x, packed, {}, y};
  if (bias.defined()) args.bias = bias;
  const double elements = static_cast<double>(packed.shape().numel());
  c.recorder.launch(kPackedLinear, args,
                    {2.0 * static_cast<double>(x.dim(0)) * elements, static_cast<double>(packed.bytes() + x.bytes() + y.bytes())});
  return y;
}

Tensor packed_rows(Context& c, const Tensor& ids, const Tensor& packed, int64_t vocab) {
  if (ids.dtype() != DType::kI32 || ids.shape().rank() != 1 || packed.shape() != packed_shape(vocab, packed.dim(1)))
    fail(ErrorKind::kInvalidArgument, "[packed_rows] ids {} {}, table {}", name(ids.dtype()), ids.shape().str(), packed.shape().str());
  const Tensor y = c.recorder.empty({ids.dim(0), packed.dim(1)}, DType::kF32, ids.live());
  c.recorder.launch(kPackedRows, {ids, packed, y, vocab}, {0, 2.0 * static_cast<double>(y.bytes())});
  return y;
}

}  // namespace flagscale::op
