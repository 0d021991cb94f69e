#include "op/lora/lora.h"

#include <algorithm>

#include "base/error.h"

namespace flagscale::op {

namespace {

int64_t rank_of(const LoraSlots& part, const Tensor& x, int64_t experts) {
  return part.a.dim(-1) / (x.dim(-1) * experts);
}

bool fits(const Tensor& x, const Tensor& slots, const LoraSlots& part, int64_t experts) {
  const auto is = [](const Tensor& t, DType dtype, const Shape& shape) {
    return t.dtype() == dtype && t.shape() == shape;
  };
  const DType type = x.dtype();
  const int dims = x.shape().rank();
  if ((dims != 2 && dims != 3) || x.dim(-1) <= 0 || experts <= 0 || part.a.shape().rank() != 2) return false;
  const int64_t count = part.a.dim(0), in = x.dim(-1), rank = rank_of(part, x, experts);
  const Shape rows = dims == 2 ? Shape{x.dim(0)} : Shape{x.dim(0), x.dim(1)};
  return rank > 0 && rank <= kMaxLoraRank && (type == DType::kF32 || type == DType::kBF16) &&
         is(part.a, type, {count, experts * rank * in}) &&
         is(part.b, type, {count, experts * rank * part.rows}) && is(slots, DType::kI32, rows) &&
         is(part.ranks, DType::kI32, {count}) && is(part.scales, DType::kF32, {count});
}

void check_parts(const Tensor& x, const Tensor& slots, const std::vector<LoraSlots>& parts, int64_t experts) {
  if (parts.size() > kMostLoraParts)
    fail(ErrorKind::kInvalidArgument, "[lora] {} parts: at most {}", parts.size(), kMostLoraParts);
  for (const LoraSlots& part : parts)
    if (!fits(x, slots, part, experts))
      fail(ErrorKind::kInvalidArgument,
           "[lora] x {} {}, slots {}, a {}, b {} of {} rows, ranks {}, scales {}", name(x.dtype()),
           x.shape().str(), slots.shape().str(), part.a.shape().str(), part.b.shape().str(), part.rows,
           part.ranks.shape().str(), part.scales.shape().str());
}

// Memory begins at 64 bytes.
bool by_pieces(const Tensor& t) {
  return t.offset() % 16 == 0 && t.dim(-1) % 8 == 0 && t.strides()[-2] % 8 == 0;
}

double elements(const Tensor& t) { return static_cast<double>(t.shape().numel()); }

}  // namespace

LoraHidden lora_down(Context& c, const Tensor& x, const Tensor& slots, const std::vector<LoraSlots>& parts,
                     int64_t experts) {
  check_parts(x, slots, parts, experts);
  LoraDownArgs args{x, slots, {}, {}, experts};
  args.pieces = x.dtype() == DType::kBF16 && by_pieces(x);
  int64_t pitch = 0;
  double products = 0, numbers = elements(x);
  for (size_t i = 0; i < parts.size(); ++i) {
    const LoraSlots& part = parts[i];
    args.parts[i] = {part.a, part.ranks};
    args.pieces = args.pieces && by_pieces(part.a);
    pitch += (rank_of(part, x, experts) + kLoraRanks - 1) / kLoraRanks * kLoraRanks;
    products += elements(x) * static_cast<double>(rank_of(part, x, experts));
    numbers += elements(part.a) / static_cast<double>(experts);
  }
  const int64_t rows = x.shape().numel() / x.dim(-1), groups = (x.dim(-1) + kLoraGroup - 1) / kLoraGroup;
  const Tensor h =
      c.recorder.empty({std::max(rows, std::min(rows, kLoraSplitRows) * groups), pitch}, DType::kF32);
  args.h = h;
  c.recorder.launch(kLoraDown, args, {2 * products, numbers * static_cast<double>(size_of(x.dtype()))});
  return {h, args.pieces};
}

void lora_up(Context& c, const Tensor& x, const LoraHidden& hidden, const Tensor& slots,
             const std::vector<LoraSlots>& parts, const Tensor& y, int64_t experts) {
  check_parts(x, slots, parts, experts);
  LoraUpArgs args{hidden.h, slots, {}, experts, x.dim(-1), hidden.pieces};
  double products = 0, numbers = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const LoraSlots& part = parts[i];
    Shape wide = x.shape();
    wide[-1] = y.dim(-1);
    if (y.dtype() != x.dtype() || y.shape() != wide || part.first + part.rows > y.dim(-1))
      fail(ErrorKind::kInvalidArgument, "[lora] x {} {}, y {} {}, columns from {} to {}", name(x.dtype()),
           x.shape().str(), name(y.dtype()), y.shape().str(), part.first, part.first + part.rows);
    const Tensor columns = y.columns(part.first, part.rows);
    args.parts[i] = {part.b, part.ranks, part.scales, columns};
    products += elements(columns) * static_cast<double>(rank_of(part, x, experts));
    numbers += 2 * elements(columns) + elements(part.b) / static_cast<double>(experts);
  }
  c.recorder.launch(kLoraUp, args, {2 * products, numbers * static_cast<double>(size_of(x.dtype()))});
}

}  // namespace flagscale::op
