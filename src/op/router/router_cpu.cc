// A row of some 8 to 256 numbers a token: softmax in vectors, the choice by looking for the highest top_k
// times.
#include "kernel/simd.h"
#include "op/router/router.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

template <class V>
using Scalar = typename V::Scalar;

// y = exp(x - highest), their sum; lse: log of the sum of exp(x).
template <class V>
Scalar<V> exponentials(const Scalar<V>* x, int64_t n, Scalar<V>* y, Scalar<V>* lse) {
  Scalar<V> highest = x[0], sum = 0;
  for (int64_t i = 1; i < n; ++i) highest = x[i] > highest ? x[i] : highest;
  for_lanes<V>(n, [&](int64_t i, int64_t lanes) {
    V::exp(V::load_n(x + i, lanes) - V::set(highest)).store_n(y + i, lanes);
  });
  for (int64_t i = 0; i < n; ++i) sum += y[i];
  if (lse) *lse = highest + std::log(sum);
  return sum;
}

template <class V>
void score_row(const RouterSpec& spec, const Scalar<V>* x, int64_t n, Scalar<V>* y) {
  if (spec.score == RouterScore::kSigmoid) {
    for_lanes<V>(n, [&](int64_t i, int64_t lanes) {
      (V::set(1) / (V::set(1) + V::exp(V::zero() - V::load_n(x + i, lanes)))).store_n(y + i, lanes);
    });
    return;
  }
  const Scalar<V> sum = exponentials<V>(x, n, y, static_cast<Scalar<V>*>(nullptr));
  for_lanes<V>(
      n, [&](int64_t i, int64_t lanes) { (V::load_n(y + i, lanes) / V::set(sum)).store_n(y + i, lanes); });
}

// The highest of those not taken; the first of equals, and the first at all where nothing compares (NaN).
template <class S>
int64_t highest(const S* x, int64_t n, const bool* taken) {
  int64_t best = -1;
  for (int64_t i = 0; i < n; ++i)
    if (!taken[i] && (best < 0 || x[i] > x[best])) best = i;
  return best;
}

// taken[i]: expert i is in a group that is not kept.
template <class S>
void leave_groups_out(const RouterSpec& spec, const S* x, int64_t n, bool* taken) {
  const int64_t size = n / spec.groups;
  S rank[kMostExperts] = {};
  bool kept[kMostExperts] = {};
  for (int g = 0; g < spec.groups; ++g) {
    bool none[kMostExperts] = {};
    const S* const group = x + g * size;
    const int64_t first = highest(group, size, none);
    none[first] = true;
    rank[g] = group[first] + (size > 1 ? group[highest(group, size, none)] : S(0));
  }
  for (int j = 0; j < spec.kept_groups; ++j) kept[highest(rank, spec.groups, kept)] = true;
  for (int64_t i = 0; i < n; ++i) taken[i] = !kept[i / size];
}

template <class S>
void choose(const RouterArgs& args, const S* scores, int64_t n, int32_t* experts) {
  S x[kMostExperts] = {};
  bool taken[kMostExperts] = {};
  for (int64_t i = 0; i < n; ++i)
    x[i] = scores[i] + (args.bias.defined() ? args.bias.ptr<const S>()[i] : S(0));
  if (args.spec.groups > 1) leave_groups_out(args.spec, x, n, taken);
  for (int j = 0; j < args.spec.top_k; ++j) {
    const int64_t best = highest(x, n, taken);
    taken[best] = true;
    experts[j] = static_cast<int32_t>(best);
  }
}

template <class S>
S total_of(const RouterSpec& spec, const S* scores, const int32_t* experts) {
  if (!spec.normalise) return 1;
  S sum = static_cast<S>(spec.floor);
  for (int j = 0; j < spec.top_k; ++j) sum += scores[experts[j]];
  return sum;
}

void forward(KernelContext& context, const RouterArgs& args) {
  for_float_type(args.logits.dtype, [&]<class V, class T>(V, T) {
    using S = Scalar<V>;
    const int64_t n = args.logits.cols(), k = args.spec.top_k;
    context.team.for_each(
        args.logits.rows(),
        [&](int64_t row) {
          S* const scores = args.scores.ptr<S>() + row * n;
          int32_t* const experts = args.experts.ptr<int32_t>() + row * k;
          score_row<V>(args.spec, args.logits.ptr<const S>() + row * args.logits.row_stride(), n, scores);
          choose<S>(args, scores, n, experts);
          const S total = total_of(args.spec, scores, experts), scale = static_cast<S>(args.spec.scale);
          for (int64_t j = 0; j < k; ++j)
            args.weights.ptr<S>()[row * k + j] = scale * (scores[experts[j]] / total);
        },
        16);
  });
}

void statistics(KernelContext& context, const RouterStatisticsArgs& args) {
  for_float_type(args.logits.dtype, [&]<class V, class T>(V, T) {
    using S = Scalar<V>;
    const int64_t n = args.logits.cols(), rows = args.logits.rows(), k = args.experts.cols();
    S* const counts = args.statistics.ptr<S>();
    // One task: it is a few numbers a token, and every sum has one order.
    context.team.for_each(1, [&](int64_t) {
      for (int64_t i = 0; i < 2 * n + 1; ++i) counts[i] = 0;
      for (int64_t row = 0; row < rows; ++row) {
        S unused[kMostExperts], lse;
        for (int64_t j = 0; j < k; ++j) counts[args.experts.ptr<const int32_t>()[row * k + j]] += 1;
        for (int64_t i = 0; i < n; ++i) counts[n + i] += args.scores.ptr<const S>()[row * n + i];
        exponentials<V>(args.logits.ptr<const S>() + row * args.logits.row_stride(), n, unused, &lse);
        counts[2 * n] += lse * lse;
      }
    });
  });
}

// The gradient of the balance loss for the scores of each expert.
template <class S>
void balance_gradient(const RouterBackwardArgs& args, int64_t n, int64_t rows, S scale, S* gradient) {
  const int64_t layers = args.statistics.dims[0], stride = args.statistics.row_stride();
  const S tokens = static_cast<S>(rows), all = tokens * static_cast<S>(layers);
  const S factor = scale * static_cast<S>(args.balance) * static_cast<S>(n) /
                   (args.across_layers ? all * all : tokens * tokens * static_cast<S>(args.spec.top_k));
  for (int64_t i = 0; i < n; ++i) {
    S chosen = 0;
    for (int64_t l = 0; l < layers; ++l)
      if (args.across_layers || l == args.layer) chosen += args.statistics.ptr<const S>()[l * stride + i];
    gradient[i] = factor * chosen;
  }
}

template <class V>
void backward_row(const RouterBackwardArgs& args, int64_t row, const Scalar<V>* balance, Scalar<V> z) {
  using S = Scalar<V>;
  const int64_t n = args.logits.cols(), k = args.spec.top_k;
  const S* const scores = args.scores.ptr<const S>() + row * n;
  const int32_t* const experts = args.experts.ptr<const int32_t>() + row * k;
  S* const dlogits = args.dlogits.ptr<S>() + row * args.dlogits.row_stride();
  S ds[kMostExperts];
  for (int64_t i = 0; i < n; ++i) ds[i] = balance ? balance[i] : S(0);
  if (args.dweights.defined()) {
    const S* const dw = args.dweights.ptr<const S>() + row * k;
    const S total = total_of(args.spec, scores, experts), scale = static_cast<S>(args.spec.scale);
    S mean = 0;  // w = scale s / total, so dw/ds has a share of every chosen one where they are normalised
    if (args.spec.normalise)
      for (int64_t j = 0; j < k; ++j) mean += dw[j] * scores[experts[j]] / total;
    for (int64_t j = 0; j < k; ++j) ds[experts[j]] += scale / total * (dw[j] - mean);
  }
  if (args.spec.score == RouterScore::kSigmoid) {
    for (int64_t i = 0; i < n; ++i) dlogits[i] = ds[i] * scores[i] * (1 - scores[i]);
    return;
  }
  S dot = 0, lse = 0;
  for (int64_t i = 0; i < n; ++i) dot += ds[i] * scores[i];
  if (z != 0) {
    S unused[kMostExperts];
    exponentials<V>(args.logits.ptr<const S>() + row * args.logits.row_stride(), n, unused, &lse);
  }
  for (int64_t i = 0; i < n; ++i) dlogits[i] = scores[i] * (ds[i] - dot + z * lse);
}

void backward(KernelContext& context, const RouterBackwardArgs& args) {
  for_float_type(args.logits.dtype, [&]<class V, class T>(V, T) {
    using S = Scalar<V>;
    const int64_t n = args.logits.cols(), rows = args.logits.rows();
    S balance[kMostExperts], z = 0;
    if (args.statistics.defined()) {
      const S scale = args.scale ? static_cast<S>(*args.scale) : S(1);
      balance_gradient<S>(args, n, rows, scale, balance);
      z = 2 * scale * static_cast<S>(args.z) / static_cast<S>(rows > 0 ? rows : 1);
    }
    const S* const added = args.statistics.defined() ? balance : nullptr;
    context.team.for_each(rows, [&](int64_t row) { backward_row<V>(args, row, added, z); }, 16);
  });
}

const CpuKernel<RouterArgs> kForward{kRouter, kIsa, &forward};
const CpuKernel<RouterStatisticsArgs> kStatistics{kRouterStatistics, kIsa, &statistics};
const CpuKernel<RouterBackwardArgs> kBackward{kRouterBackward, kIsa, &backward};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
