#include "op/packed_linear/packed_linear.h"

#include "base/error.h"
#include "op/packed_linear/fast_formats.h"

namespace flagscale::op {

namespace {

constexpr const char* kComputeNames[] = {"exact", "bf16", "int8", "fast"};

bool holds(const PackedWeight& weight, const PackedSegment& s) {
  return s.data.defined() && s.data.dtype() == DType::kU8 && s.data.shape() == weight.shape_of(s);
}

bool holds(const PackedWeight& weight, int64_t groups) {
  bool good = weight.groups == groups;
  for (const PackedSegment& s : weight.segments) good = good && holds(weight, s);
  return good;
}

Cost cost_of(double rows, double elements, const PackedSegment& s, const Tensor& x) {
  return {2 * rows * elements,
          static_cast<double>(s.data.bytes() + x.bytes()) + 4 * rows * static_cast<double>(s.rows)};
}

const KernelSlot<PackedLinearArgs>& slot_for(Packing packing, Compute compute) {
  if (info(packing).bits == 0) return kPackedLinear;
  return compute == Compute::kInt8 ? kPackedLinearInt8 : kPackedLinearExact;
}

}  // namespace

const char* name(Compute compute) { return kComputeNames[static_cast<int>(compute)]; }

Compute parse_compute(std::string_view name) {
  for (int i = 0; i < 4; ++i)
    if (name == kComputeNames[i]) return static_cast<Compute>(i);
  fail(ErrorKind::kInvalidArgument, "compute is '{}'; it may be exact, bf16, int8 or fast", name);
}

Compute compute_for(Packing packing, Compute wanted) {
  const Compute rounded = info(packing).bits > 0      ? Compute::kInt8
                          : packing == Packing::kBF16 ? Compute::kBF16
                                                      : Compute::kExact;
  const bool takes_it = wanted == Compute::kFast ? fast_is_near(packing) : wanted == rounded;
  return takes_it ? rounded : Compute::kExact;
}

int64_t PackedWeight::out() const {
  int64_t rows = 0;
  for (const PackedSegment& s : segments) rows += s.rows;
  return rows;
}

size_t PackedWeight::bytes() const {
  size_t bytes = 0;
  for (const PackedSegment& s : segments) bytes += s.data.bytes();
  return bytes;
}

Shape PackedWeight::shape_of(const PackedSegment& segment) const {
  Shape shape = packed_shape(segment.packing, segment.rows, in);
  shape[0] *= groups;
  return shape;
}

Tensor packed_linear(Context& c, const Tensor& x, const PackedWeight& weight, const Tensor& bias) {
  const int64_t out = weight.out();
  const bool good = x.shape().rank() == 2 && x.dim(1) == weight.in && x.dtype() == DType::kF32 &&
                    (!bias.defined() || (bias.shape() == Shape{out} && bias.dtype() == DType::kF32));
  if (!good || !holds(weight, 1))
    fail(ErrorKind::kInvalidArgument, "[packed_linear] x is {} {}, the packed weight [{}, {}]",
         name(x.dtype()), x.shape().str(), out, weight.in);
  const Tensor y = c.recorder.empty({x.dim(0), out}, DType::kF32, x.live());
  int64_t at = 0;
  for (const PackedSegment& s : weight.segments) {
    const Compute compute = compute_for(s.packing, weight.compute);
    PackedLinearArgs args{x, s.data, {}, y.columns(at, s.rows), s.packing, compute == Compute::kBF16, {}};
    if (bias.defined()) args.bias = bias.rows(at, s.rows);
    c.recorder.launch(slot_for(s.packing, compute), args,
                      cost_of(static_cast<double>(x.dim(0)), static_cast<double>(s.rows * weight.in), s, x));
    at += s.rows;
  }
  return y;
}

Tensor packed_grouped(Context& c, const Tensor& x, const Tensor& counts, const PackedWeight& weight) {
  if (x.shape().rank() != 3 || x.dim(2) != weight.in || x.dtype() != DType::kF32 ||
      counts.dtype() != DType::kI32 || !holds(weight, counts.shape().numel()))
    fail(ErrorKind::kInvalidArgument,
         "[packed_grouped] x is {} {}, the packed weight {} of [{}, {}], counts {}", name(x.dtype()),
         x.shape().str(), weight.groups, weight.out(), weight.in, counts.shape().str());
  const Tensor y = c.recorder.empty({x.dim(0), x.dim(1), weight.out()}, DType::kF32, x.live());
  int64_t at = 0;
  for (const PackedSegment& s : weight.segments) {
    const Compute compute = compute_for(s.packing, weight.compute);
    const PackedLinearArgs args{
        x, s.data, {}, y.columns(at, s.rows), s.packing, compute == Compute::kBF16, counts};
    c.recorder.launch(
        slot_for(s.packing, compute), args,
        cost_of(static_cast<double>(x.dim(0) * x.dim(1)), static_cast<double>(s.rows * weight.in), s, x));
    at += s.rows;
  }
  return y;
}

Tensor packed_rows(Context& c, const Tensor& ids, const PackedWeight& table) {
  const bool good =
      ids.dtype() == DType::kI32 && ids.shape().rank() == 1 && table.segments.size() == 1 && holds(table, 1);
  if (!good)
    fail(ErrorKind::kInvalidArgument, "[packed_rows] ids {} {}, table [{}, {}] in {} pieces",
         name(ids.dtype()), ids.shape().str(), table.out(), table.in, table.segments.size());
  const PackedSegment& s = table.segments[0];
  const Tensor y = c.recorder.empty({ids.dim(0), table.in}, DType::kF32, ids.live());
  c.recorder.launch(kPackedRows, {ids, s.data, y, s.packing, s.rows},
                    {0, 2.0 * static_cast<double>(y.bytes())});
  return y;
}

}  // namespace flagscale::op
