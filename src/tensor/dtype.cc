#include "tensor/dtype.h"

#include <bit>
#include <cmath>
#include <iterator>
#include <string>

#include "base/error.h"

namespace flagscale {

namespace {
struct Entry {
  DType dtype;
  size_t bytes;
  std::string_view name, safetensors;
};
constexpr Entry kTypes[] = {
    {DType::kF64, 8, "float64", "F64"},    {DType::kF32, 4, "float32", "F32"},
    {DType::kBF16, 2, "bfloat16", "BF16"}, {DType::kF16, 2, "float16", "F16"},
    {DType::kI64, 8, "int64", "I64"},      {DType::kI32, 4, "int32", "I32"},
    {DType::kI16, 2, "int16", "I16"},      {DType::kI8, 1, "int8", "I8"},
    {DType::kU16, 2, "uint16", "U16"},     {DType::kU8, 1, "uint8", "U8"},
    {DType::kBool, 1, "bool", "BOOL"},
};
}  // namespace

size_t size_of(DType dtype) { return kTypes[static_cast<size_t>(dtype)].bytes; }
std::string_view name(DType dtype) { return kTypes[static_cast<size_t>(dtype)].name; }

DType parse_dtype(std::string_view text) {
  if (text.starts_with("torch.")) text.remove_prefix(6);
  for (const Entry& entry : kTypes)
    if (text == entry.name || text == entry.safetensors) return entry.dtype;
  fail(ErrorKind::kInvalidArgument,
       "unknown dtype '{}'; known: float32, bfloat16, float16, float64, int64, int32, "
       "int16, int8, uint16, uint8, bool",
       text);
}

float to_float(BF16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

BF16 to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return {static_cast<uint16_t>((bits >> 16) | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

float to_float(F16 value) {
  const uint32_t sign = (value.bits & 0x8000u) << 16;
  const uint32_t exponent = (value.bits >> 10) & 31, mantissa = value.bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

F16 to_f16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return {static_cast<uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 65520.f) return {static_cast<uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x1p-14f)  // subnormal: multiples of 2^-24, rounded to nearest even by the addition
    return {static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24f)))};
  const uint32_t rounded = (bits & 0x7fffffffu) + 0xfffu + ((bits >> 13) & 1);
  return {static_cast<uint16_t>(sign | ((rounded >> 13) - (112u << 10)))};
}

}  // namespace flagscale
