#pragma once
// What the tests of optimizers' kernels share.

#include "op/adamw/adamw.h"
#include "op/op_testing.h"

namespace flagscale::op::testing {

// As kernels read them.
inline Tensor tensor_of(const StepScalars& step) {
  const Tensor scalars = make_tensor(allocator(), {sizeof step}, DType::kU8);
  copy_from_host(&step, scalars);
  return scalars;
}

inline Tensor one(float value) {
  const Tensor tensor = make_tensor(allocator(), {1}, DType::kF32);
  *tensor.data<float>() = value;
  return tensor;
}

inline void expect_same_bits(const std::vector<Tensor>& got, const std::vector<Tensor>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t k = 0; k < got.size(); ++k) {
    ASSERT_EQ(got[k].bytes(), want[k].bytes());
    const auto *a = static_cast<const uint8_t*>(got[k].raw()),
               *b = static_cast<const uint8_t*>(want[k].raw());
    for (size_t i = 0; i < got[k].bytes(); ++i)
      ASSERT_EQ(a[i], b[i]) << "tensor " << k << ", element " << i / size_of(got[k].dtype());
  }
}

}  // namespace flagscale::op::testing
