// Bound by memory: rows are copied, scaled or added whole. Sorting is a count and two passes over the
// choices.
#include "kernel/simd.h"
#include "op/expert_rows/expert_rows.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

void sort(KernelContext& context, const SortByExpertArgs& args) {
  const int64_t choices = args.experts.rows() * args.experts.cols(), experts = args.counts.dims[0];
  const auto* const expert = args.experts.ptr<const int32_t>();
  auto *const counts = args.counts.ptr<int32_t>(), *const next =
                                                       reinterpret_cast<int32_t*>(context.workspace.data());
  for (int64_t e = 0; e < experts; ++e) counts[e] = 0;
  for (int64_t i = 0; i < choices; ++i) ++counts[expert[i]];
  for (int64_t e = 0, row = 0; e < experts; row += counts[e++]) next[e] = static_cast<int32_t>(row);
  for (int64_t i = 0; i < choices; ++i) {
    const int32_t row = next[expert[i]]++;
    args.rows.ptr<int32_t>()[i] = row;
    args.choices.ptr<int32_t>()[row] = static_cast<int32_t>(i);
  }
}

size_t sort_workspace(const SortByExpertArgs& args, int) {
  return static_cast<size_t>(args.counts.dims[0]) * sizeof(int32_t);
}

void expert_slots(KernelContext&, const ExpertSlotsArgs& args) {
  if (args.slots.size() == 0) return;
  const int64_t experts = args.counts.dims[0], top_k = args.choices.cols();
  const auto* const choices = args.choices.ptr<const int32_t>();
  for (int64_t e = 0, row = 0; e < experts; ++e)
    for (const int64_t end = row + args.counts.ptr<const int32_t>()[e]; row < end; ++row) {
      const int32_t slot = args.slots.ptr<const int32_t>()[choices[row] / top_k];
      args.rows.ptr<int32_t>()[row] = slot < 0 ? -1 : static_cast<int32_t>(slot * experts + e);
    }
}

// Weights have the type of the sums, or of the rows where tests convert all alike.
template <class V>
V weight_at(const TensorView& weights, int64_t i) {
  using S = typename V::Scalar;
  if (!weights.defined()) return V::set(1);
  if (weights.dtype == DType::kBF16) return V::set(static_cast<S>(as_float(weights.ptr<const BF16>()[i])));
  return V::set(weights.ptr<const S>()[i]);
}

void spread(KernelContext& context, const SpreadArgs& args) {
  const int64_t top_k = args.choices.cols(), n = args.x.cols();
  for_float_type(args.x.dtype, [&]<class V, class T>(V, T) {
    context.team.for_each(
        args.y.rows(),
        [&](int64_t row) {
          const int64_t choice = args.choices.ptr<const int32_t>()[row];
          const T* const x = args.x.ptr<const T>() + choice / top_k * args.x.row_stride();
          T* const y = args.y.ptr<T>() + row * n;
          const V weight = weight_at<V>(args.weights, choice);
          for_lanes<V>(
              n, [&](int64_t i, int64_t lanes) { (weight * V::load_n(x + i, lanes)).store_n(y + i, lanes); });
        },
        8);
  });
}

void gather(KernelContext& context, const GatherArgs& args) {
  const int64_t top_k = args.rows.cols(), n = args.y.cols();
  for_float_type(args.x.dtype, [&]<class V, class T>(V, T) {
    context.team.for_each(
        args.y.rows(),
        [&](int64_t token) {
          const int32_t* const rows = args.rows.ptr<const int32_t>() + token * top_k;
          T* const y = args.y.ptr<T>() + token * args.y.row_stride();
          for_lanes<V>(n, [&](int64_t i, int64_t lanes) {
            V sum = V::zero();
            for (int64_t j = 0; j < top_k; ++j)
              sum = V::fma(weight_at<V>(args.weights, token * top_k + j),
                           V::load_n(args.x.ptr<const T>() + rows[j] * n + i, lanes), sum);
            sum.store_n(y + i, lanes);
          });
        },
        8);
  });
}

void gather_weights(KernelContext& context, const GatherWeightsArgs& args) {
  const int64_t top_k = args.rows.cols(), n = args.dy.cols();
  for_float_type(args.x.dtype, [&]<class V, class T>(V, T) {
    context.team.for_each(
        args.dy.rows(),
        [&](int64_t token) {
          const T* const dy = args.dy.ptr<const T>() + token * args.dy.row_stride();
          for (int64_t j = 0; j < top_k; ++j) {
            const int64_t choice = token * top_k + j;
            const T* const x = args.x.ptr<const T>() + args.rows.ptr<const int32_t>()[choice] * n;
            V sum = V::zero();
            for_lanes<V>(n, [&](int64_t i, int64_t lanes) {
              sum = V::fma(V::load_n(x + i, lanes), V::load_n(dy + i, lanes), sum);
            });
            if (args.dweights.dtype == DType::kBF16)
              put(args.dweights.ptr<BF16>() + choice, sum.sum());
            else
              args.dweights.ptr<typename V::Scalar>()[choice] = sum.sum();
          }
        },
        8);
  });
}

const CpuKernel<ExpertSlotsArgs> kExpertSlotsKernel{kExpertSlots, kIsa, &expert_slots};
const CpuKernel<SortByExpertArgs> kSort{kSortByExpert, kIsa, &sort, &sort_workspace};
const CpuKernel<SpreadArgs> kSpreadKernel{kSpread, kIsa, &spread};
const CpuKernel<GatherArgs> kGatherKernel{kGather, kIsa, &gather};
const CpuKernel<GatherWeightsArgs> kGatherWeightsKernel{kGatherWeights, kIsa, &gather_weights};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
