#include "op/router/router.h"

#include "base/check.h"
#include "base/error.h"

namespace flagscale::op {

namespace {

void check(const Tensor& logits, const Tensor& bias, const RouterSpec& s, const RouterLosses* losses) {
  const int64_t experts = logits.shape().rank() == 2 ? logits.dim(1) : 0;
  if (experts < 1 || experts > kMostExperts ||
      (logits.dtype() != DType::kF32 && logits.dtype() != DType::kF64))
    fail(ErrorKind::kInvalidArgument, "[router] logits are {} {}, expected fp32 [tokens, 1..{}]",
         name(logits.dtype()), logits.shape().str(), kMostExperts);
  if (bias.defined() && (bias.shape() != Shape{experts} || bias.dtype() != logits.dtype()))
    fail(ErrorKind::kInvalidArgument, "[router] bias is {}, logits {}", bias.shape().str(),
         logits.shape().str());
  const int64_t size = s.groups > 0 && experts % s.groups == 0 ? experts / s.groups : 0;
  if (size == 0 || s.kept_groups < 1 || s.kept_groups > s.groups || s.top_k < 1 ||
      s.top_k > size * s.kept_groups)
    fail(ErrorKind::kInvalidArgument, "[router] top {} of {} experts in {} of {} groups", s.top_k, experts,
         s.kept_groups, s.groups);
  if (losses && losses->wanted() && s.score != RouterScore::kSoftmax)
    fail(ErrorKind::kUnsupported, "[router] balance and z losses are those of a softmax router");
}

}  // namespace

Routing route(Context& c, const Tensor& logits, const Tensor& bias, const RouterSpec& spec,
              const RouterLosses* losses, int layer) {
  check(logits, bias, spec, losses);
  const int64_t experts = logits.dim(1);
  const Tensor scores = c.recorder.empty_like(logits);
  const Routing to{c.recorder.empty({logits.dim(0), spec.top_k}, logits.dtype(), logits.live()),
                   c.recorder.empty({logits.dim(0), spec.top_k}, DType::kI32, logits.live())};
  const double elements = static_cast<double>(logits.shape().numel()),
               bytes = static_cast<double>(logits.bytes());
  c.recorder.launch(kRouter, {logits, bias, scores, to.experts, to.weights, spec},
                    {elements * (4 + spec.top_k), 2 * bytes});
  const bool told = losses && losses->wanted() && losses->statistics.defined();
  if (told)
    c.recorder.launch(kRouterStatistics, {logits, scores, to.experts, losses->statistics.rows(layer, 1)},
                      {6 * elements, 2 * bytes});
  if (!c.tape) return to;
  const RouterLosses kept = told ? *losses : RouterLosses{};
  FLAGSCALE_CHECK(!told || losses->statistics.dim(1) == 2 * experts + 1);
  c.tape->record({logits}, {to.weights}, [=](Backward& b) {
    if (!b.wants(logits)) return;
    const Tensor dlogits = b.buffer(logits);
    b.recorder.launch(kRouterBackward,
                      {logits, scores, to.experts, to.weights, b.grad(0), kept.statistics, dlogits, spec,
                       layer, kept.balance, kept.z, kept.across_layers, kept.scale},
                      {10 * elements, 3 * bytes});
    b.give(logits, dlogits);
  });
  return to;
}

RouterLossValues router_loss_values(const RouterLosses& losses, int top_k, int64_t tokens) {
  const Tensor& s = losses.statistics;
  const int64_t layers = s.dim(0), experts = s.dim(1) / 2;
  const auto at = [&](int64_t layer, int64_t i) {
    const int64_t index = layer * s.dim(1) + i;
    return s.dtype() == DType::kF64 ? s.data<double>()[index] : static_cast<double>(s.data<float>()[index]);
  };
  const auto n = static_cast<double>(tokens), count = static_cast<double>(layers);
  RouterLossValues result;
  double together = 0;
  for (int64_t e = 0; e < experts; ++e) {
    double chosen = 0, scores = 0;
    for (int64_t l = 0; l < layers; ++l) {
      result.balance += at(l, e) * at(l, experts + e);
      chosen += at(l, e), scores += at(l, experts + e);
    }
    together += chosen * scores;
  }
  const double factor = static_cast<double>(experts) / (n * n);
  result.balance *= factor / (top_k * count);
  if (losses.across_layers) result.balance = together * factor / (count * count);
  for (int64_t l = 0; l < layers; ++l) result.z += at(l, 2 * experts) / (n * count);
  return result;
}

}  // namespace flagscale::op
