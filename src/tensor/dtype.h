#pragma once
// Element types. Quantised GGUF block formats are types of io/, not of tensors.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace flagscale {

enum class DType : uint8_t { kF64, kF32, kBF16, kF16, kI64, kI32, kI16, kI8, kU16, kU8, kBool };

size_t size_of(DType dtype);         // bytes of one element
std::string_view name(DType dtype);  // "float32", "bfloat16", ... as PyTorch names them
DType parse_dtype(
    std::string_view text);  // PyTorch ("float32", "torch.bfloat16") and safetensors ("F32", "BF16") names

// bfloat16 is the upper half of a float; rounding is to nearest even, NaN stays NaN.
struct BF16 {
  uint16_t bits = 0;
};
float to_float(BF16 value);
BF16 to_bf16(float value);

// IEEE half precision.
struct F16 {
  uint16_t bits = 0;
};
float to_float(F16 value);
F16 to_f16(float value);

}  // namespace flagscale
