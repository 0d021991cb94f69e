#pragma once
// The largest magnitude of a tensor of bf16, found by whoever makes it, for the scale that rounds it to fp8:
// parts, each the largest of some of its numbers as bits of bf16, so that what is no number is the largest,
// or 0.

#include "kernel/recorder.h"

namespace flagscale::op {

constexpr int64_t kLargestParts = 512;

inline Tensor make_largest(Recorder& recorder) { return recorder.empty({kLargestParts}, DType::kI32); }

// A processor's.
inline int32_t largest_of(const TensorView& x) {
  int32_t most = 0;
  for (int64_t i = 0; i < x.rows(); ++i)
    for (int64_t j = 0; j < x.cols(); ++j) {
      const int32_t bits = x.ptr<const BF16>()[i * x.row_stride() + j].bits & 0x7fff;
      if (bits > most) most = bits;
    }
  return most;
}

// Of one or two tensors.
inline void write_largest(const TensorView& to, const TensorView& x, const TensorView* more = nullptr) {
  if (!to.defined()) return;
  auto* parts = to.ptr<int32_t>();
  for (int64_t i = 0; i < kLargestParts; ++i) parts[i] = 0;
  parts[0] = largest_of(x);
  if (more) parts[1] = largest_of(*more);
}

}  // namespace flagscale::op
