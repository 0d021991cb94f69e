#include "op/cross_entropy/cross_entropy.h"

#include <algorithm>

#include "base/error.h"
#include "op/matmul/matmul.h"

namespace flagscale::op {

int64_t head_loss_rows(int64_t tokens, int64_t vocab) {
  // Each chunk reads the weight twice and adds to its gradient once: 16M logits (64 MB) keep that small
  // beside the products; below 64 rows they do not run at full speed.
  // Of very many tokens an eighth up to 512M logits, or a GPU's products were too small.
  const int64_t columns = std::max<int64_t>(vocab, 1);
  const int64_t many = std::min(tokens / 8, (int64_t{512} << 20) / columns);
  const int64_t rows = std::max((int64_t{16} << 20) / columns, many) / 64 * 64;
  return std::clamp<int64_t>(rows, 64, std::max<int64_t>(tokens, 1));
}

namespace {

void check_shapes(const Tensor& hidden, const Tensor& weight, const Tensor& labels, const Tensor& mask) {
  const bool good = hidden.shape().rank() == 2 && weight.shape().rank() == 2 &&
                    hidden.dim(1) == weight.dim(1) && labels.dtype() == DType::kI32 &&
                    labels.shape() == Shape{hidden.dim(0)} && mask.dtype() == DType::kF32 &&
                    mask.shape() == labels.shape() && !hidden.live();
  if (!good)
    fail(ErrorKind::kInvalidArgument, "[head_loss] hidden {}, weight {}, labels {} {}, mask {} do not fit",
         hidden.shape().str(), weight.shape().str(), name(labels.dtype()), labels.shape().str(),
         mask.shape().str());
}

// Numbers from one row of logits to the next: an odd count of cache lines, so that the products that walk
// down a column find its rows in different sets of the cache.
int64_t logits_pitch(int64_t vocab) { return ((vocab + 15) / 16 | 1) * 16; }

// The same rows seen as numbers of half the size, at the start of each row: dlogits in bf16 take the logits'
// place.
Tensor narrowed(const Tensor& memory, DType dtype, int64_t rows, int64_t vocab) {
  return Tensor(memory.storage(), memory.offset(), dtype, {memory.dim(0), 2 * memory.dim(1)})
      .rows(0, rows)
      .columns(0, vocab);
}

}  // namespace

Tensor head_loss(Context& c, const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                 const Tensor& mask, const float* grad_scale) {
  check_shapes(hidden, weight, labels, mask);
  const int64_t tokens = hidden.dim(0), vocab = weight.dim(0), chunk = head_loss_rows(tokens, vocab);
  const DType sums = hidden.dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
  const bool learn = c.tape && grad_scale;
  const bool narrow = learn && hidden.dtype() != sums;  // the products take dlogits in hidden's type
  Recorder& r = c.recorder;

  const Tensor loss = r.empty({tokens}, sums);
  const Tensor memory = r.empty({chunk, logits_pitch(vocab)}, sums);
  const Tensor dhidden = learn && c.tape->needs(hidden) ? r.empty(hidden.shape(), hidden.dtype()) : Tensor();

  for (int64_t first = 0; first < tokens; first += chunk) {
    const int64_t rows = std::min(chunk, tokens - first);
    const Tensor logits = memory.rows(0, rows).columns(0, vocab), h = hidden.rows(first, rows);
    launch_matmul(r, {h, weight, logits, {}, false, true, nullptr, {}});
    const Tensor dnarrow = narrow ? narrowed(memory, hidden.dtype(), rows, vocab) : Tensor();
    const double bytes = static_cast<double>(logits.bytes());
    r.launch(kCrossEntropy,
             {logits, labels.rows(first, rows), mask.rows(first, rows), loss.rows(first, rows), dnarrow,
              learn ? grad_scale : nullptr},
             {4.0 * static_cast<double>(logits.shape().numel()), bytes * (learn ? 3 : 2)});
    if (!learn) continue;
    const Tensor dlogits = narrow ? dnarrow : logits;
    if (dhidden.defined())
      launch_matmul(r, {dlogits, weight, dhidden.rows(first, rows), {}, false, false, nullptr, {}});
    Backward back = c.tape->early(r);
    const auto sink = back.sink(weight);
    if (sink.grad.defined()) launch_matmul(r, {dlogits, h, {}, sink.grad, true, false, sink.accumulate, {}});
  }
  if (dhidden.defined()) c.tape->early(r).give(hidden, dhidden);
  return loss;
}

}  // namespace flagscale::op
