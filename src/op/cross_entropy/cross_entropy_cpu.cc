// Two passes over a row's logits, which come from L2 or L3: maximum with sum of exponentials, then gradient.
#include <algorithm>

#include "kernel/simd.h"
#include "op/cross_entropy/cross_entropy.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

// dlogits = (exp(x - maximum) / sum - onehot) * scale
template <class V, class S, class D>
void gradient_row(const S* x, D* d, int64_t vocab, int64_t label, S maximum, S sum, S scale) {
  const V high = V::set(maximum), factor = V::set(scale / sum);
  const S at_label = (std::exp(x[label] - maximum) / sum - S(1)) * scale;
  for_lanes<V>(
      vocab, [&](int64_t i, int64_t n) { (V::exp(V::load_n(x + i, n) - high) * factor).store_n(d + i, n); });
  put(d + label, at_label);
}

// Sums of short pieces are added in double: small terms would be lost in one long sum, all on the same side,
// and the gradients of a row no longer add up to nothing.
template <class V, class S>
S sum_of_exponentials(const S* x, int64_t size, S maximum) {
  constexpr int64_t kPiece = 32 * V::kLanes;
  const V shift = V::set(maximum);
  double total = 0;
  int64_t i = 0;
  for (; i + V::kLanes <= size;) {
    V sum = V::zero();
    for (const int64_t end = std::min(i + kPiece, size); i + V::kLanes <= end; i += V::kLanes)
      sum = sum + V::exp(V::load(x + i) - shift);
    total += static_cast<double>(sum.sum());
  }
  for (; i < size; ++i) total += static_cast<double>(std::exp(x[i] - maximum));
  return static_cast<S>(total);
}

template <class V>
void row_loss(const CrossEntropyArgs& args, int64_t row) {
  using S = typename V::Scalar;
  const int64_t vocab = args.logits.cols();
  S* x = args.logits.ptr<S>() + row * args.logits.row_stride();
  const int64_t token = args.tokens.defined() ? args.tokens.ptr<const int32_t>()[row] : row;
  const float mask = args.mask.ptr<const float>()[token];
  S* loss = args.loss.ptr<S>() + token;
  const bool narrow = args.dlogits.defined();
  if (mask == 0.f) {
    *loss = 0;
    if (!args.grad_scale) return;
    if (narrow)
      std::memset(args.dlogits.ptr<char>() + row * args.dlogits.row_stride() * 2, 0,
                  static_cast<size_t>(vocab) * 2);
    else
      std::memset(x, 0, static_cast<size_t>(vocab) * sizeof(S));
    return;
  }
  const int32_t wanted = args.labels.ptr<const int32_t>()[token];
  const int64_t label = wanted >= 0 && wanted < vocab ? wanted : 0;
  V high = V::set(x[0]);
  for (int64_t i = 0; i + V::kLanes <= vocab; i += V::kLanes) high = V::max(high, V::load(x + i));
  S maximum = high.highest();
  for (int64_t i = vocab / V::kLanes * V::kLanes; i < vocab; ++i) maximum = x[i] > maximum ? x[i] : maximum;

  const S sum = sum_of_exponentials<V>(x, vocab, maximum);
  *loss = (maximum + std::log(sum) - x[label]) * static_cast<S>(mask);

  if (!args.grad_scale) return;
  const S scale = static_cast<S>(*args.grad_scale) * static_cast<S>(mask);
  if (narrow) {
    gradient_row<V>(x, args.dlogits.ptr<BF16>() + row * args.dlogits.row_stride(), vocab, label, maximum, sum,
                    scale);
  } else {
    gradient_row<V>(x, x, vocab, label, maximum, sum, scale);
  }
}

void run(KernelContext& context, const CrossEntropyArgs& args) {
  for_float_type(args.logits.dtype, [&]<class V, class T>(V, T) {
    context.team.for_each(args.logits.rows(), [&](int64_t row) { row_loss<V>(args, row); }, 2);
  });
}

void put_rows(KernelContext& context, const PutRowsArgs& args) {
  const size_t size = size_of(args.x.dtype), bytes = static_cast<size_t>(args.x.cols()) * size;
  const auto at = [&](const TensorView& t, int64_t row) {
    return t.ptr<char>() + static_cast<size_t>(row * t.row_stride()) * size;
  };
  context.team.for_each(
      args.x.rows(),
      [&](int64_t row) {
        std::memcpy(at(args.y, args.tokens.ptr<const int32_t>()[row]), at(args.x, row), bytes);
      },
      64);
}

const CpuKernel<CrossEntropyArgs> kKernel{kCrossEntropy, kIsa, &run};
const CpuKernel<PutRowsArgs> kPutRowsKernel{kPutRows, kIsa, &put_rows};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
