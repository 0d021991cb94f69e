#include "op/cross_entropy/cross_entropy.h"

#include <algorithm>

#include "base/error.h"
#include "op/elementwise/elementwise.h"
#include "op/embedding/embedding.h"
#include "op/matmul/matmul.h"
#include "op/packed_linear/unpacked_linear.h"

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

LearntTokens::LearntTokens(Tensor memory, int64_t vocab, bool few_counts)
    : memory_(std::move(memory)),
      chunk_(head_loss_rows(memory_.dim(0), vocab)),
      piece_(few_counts ? std::max<int64_t>(chunk_ / 8 / 64 * 64, 64) : 1),
      live_(static_cast<size_t>((memory_.dim(0) + chunk_ - 1) / chunk_)) {}

int64_t LearntTokens::order(const float* mask, int32_t* tokens) const {
  const int64_t all = memory_.dim(0);
  int64_t count = 0;
  for (int64_t i = 0; i < all; ++i)
    if (mask[i] != 0.f) tokens[count++] = static_cast<int32_t>(i);
  for (int64_t i = 0, end = count; i < all; ++i)
    if (mask[i] == 0.f) tokens[end++] = static_cast<int32_t>(i);
  const int64_t rest = count % chunk_, filled = (rest + piece_ - 1) / piece_ * piece_;
  return std::min(all, count - rest + std::min(filled, chunk_));
}

void LearntTokens::take(int64_t rows) {
  for (int64_t& live : live_) {
    live = std::min(rows, chunk_);
    rows -= live;
  }
}

Tensor LearntTokens::chunk(int64_t first, int64_t rows) const {
  return memory_.rows(first, rows).with_live(&live_[static_cast<size_t>(first / chunk_)]);
}

namespace {

void check_shapes(const Tensor& hidden, const Shape& weight, const Tensor& labels, const Tensor& mask) {
  const bool good = hidden.shape().rank() == 2 && weight.rank() == 2 && hidden.dim(1) == weight[1] &&
                    hidden.contiguous() && labels.dtype() == DType::kI32 &&
                    labels.shape() == Shape{hidden.dim(0)} && mask.dtype() == DType::kF32 &&
                    mask.shape() == labels.shape() && !hidden.live();
  if (!good)
    fail(ErrorKind::kInvalidArgument, "[head_loss] hidden {}, weight {}, labels {} {}, mask {} do not fit",
         hidden.shape().str(), weight.str(), name(labels.dtype()), labels.shape().str(), mask.shape().str());
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

Tensor zeros(Recorder& r, const Shape& shape, DType dtype) {
  const Tensor zero = r.empty(shape, dtype);
  r.launch(kZero, {zero}, {0, static_cast<double>(zero.bytes())});
  return zero;
}

struct HeadLoss {
  Context& c;
  const Tensor &hidden, &labels, &mask;
  Tensor weight;               // one of the two
  const PackedWeight* packed;  // frozen
  const float* grad_scale;
  const LearntTokens* learnt;
  Recorder& r = c.recorder;
  DType sums = hidden.dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
  Tensor loss{}, memory{}, dhidden{};  // memory: of a chunk's logits

  int64_t vocab() const { return packed ? packed->out() : weight.dim(0); }
  void product(const Tensor& h, const Tensor& logits) const {
    if (packed) return launch_unpacked(r, h, *packed, {}, logits);
    launch_matmul(r, {h, weight, logits, {}, false, true, nullptr, {}});
  }
  void product_gradient(const Tensor& dlogits, const Tensor& dh) const {
    if (packed) return launch_unpacked_gradient(r, dlogits, *packed, dh);
    launch_matmul(r, {dlogits, weight, dh, {}, false, false, nullptr, {}});
  }

  // The chunk's rows of hidden.
  Tensor input(const Tensor& tokens, int64_t first, int64_t rows) const {
    if (!learnt) return hidden.rows(first, rows);
    const Tensor h = r.empty({rows, hidden.dim(1)}, hidden.dtype(), tokens.live());
    r.launch(kEmbedding, {tokens, hidden, h}, {0, 2.0 * static_cast<double>(h.bytes())});
    return h;
  }

  void output(const Tensor& dlogits, const Tensor& tokens, int64_t first) const {
    const int64_t rows = dlogits.dim(0);
    if (!learnt) return product_gradient(dlogits, dhidden.rows(first, rows));
    const Tensor dh = r.empty({rows, hidden.dim(1)}, hidden.dtype(), tokens.live());
    product_gradient(dlogits, dh);
    r.launch(kPutRows, {dh, tokens, dhidden}, {0, 2.0 * static_cast<double>(dh.bytes())});
  }

  void chunk(int64_t first, int64_t rows) {
    const Tensor tokens = learnt ? learnt->chunk(first, rows) : Tensor();
    const int64_t* live = learnt ? tokens.live() : nullptr;
    const bool narrow = grad_scale && hidden.dtype() != sums;  // the products take dlogits in hidden's type
    const Tensor logits = memory.rows(0, rows).columns(0, vocab()).with_live(live);
    const Tensor h = input(tokens, first, rows);
    product(h, logits);
    const Tensor dnarrow =
        narrow ? narrowed(memory, hidden.dtype(), rows, vocab()).with_live(live) : Tensor();
    CrossEntropyArgs args{logits, labels, mask, loss, dnarrow, grad_scale};
    if (learnt)
      args.tokens = tokens;
    else
      args.labels = labels.rows(first, rows), args.mask = mask.rows(first, rows),
      args.loss = loss.rows(first, rows);
    r.launch(kCrossEntropy, args,
             {4.0 * static_cast<double>(logits.shape().numel()),
              static_cast<double>(logits.bytes()) * (grad_scale ? 3 : 2)});
    if (!grad_scale) return;
    const Tensor dlogits = narrow ? dnarrow : logits;
    if (dhidden.defined()) output(dlogits, tokens, first);
    if (packed) return;
    Backward back = c.tape->early(r);
    const auto sink = back.sink(weight);
    if (sink.grad.defined()) launch_matmul(r, {dlogits, h, {}, sink.grad, true, false, sink.accumulate, {}});
  }

  Tensor run() {
    const int64_t tokens = hidden.dim(0), rows = head_loss_rows(tokens, vocab());
    loss = learnt ? zeros(r, {tokens}, sums) : r.empty({tokens}, sums);
    memory = r.empty({rows, logits_pitch(vocab())}, sums);
    if (grad_scale && c.tape->needs(hidden))
      dhidden = learnt ? zeros(r, hidden.shape(), hidden.dtype()) : r.empty(hidden.shape(), hidden.dtype());
    for (int64_t first = 0; first < tokens; first += rows) chunk(first, std::min(rows, tokens - first));
    if (dhidden.defined()) c.tape->early(r).give(hidden, dhidden);
    return loss;
  }
};

}  // namespace

Tensor head_loss(Context& c, const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                 const Tensor& mask, const float* grad_scale, const LearntTokens* learnt) {
  check_shapes(hidden, weight.shape(), labels, mask);
  return HeadLoss{c, hidden, labels, mask, weight, nullptr, c.tape ? grad_scale : nullptr, learnt}.run();
}

Tensor head_loss(Context& c, const Tensor& hidden, const PackedWeight& weight, const Tensor& labels,
                 const Tensor& mask, const float* grad_scale, const LearntTokens* learnt) {
  check_shapes(hidden, {weight.out(), weight.in}, labels, mask);
  return HeadLoss{c, hidden, labels, mask, {}, &weight, c.tape ? grad_scale : nullptr, learnt}.run();
}

}  // namespace flagscale::op
