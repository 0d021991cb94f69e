#pragma once
// The element types a Megatron .idx file can name, by its code.

#include <cstdint>
#include <cstring>
#include <string_view>

namespace flagscale::data {

enum class TokenType : uint8_t {
  kU8 = 1,
  kI8 = 2,
  kI16 = 3,
  kI32 = 4,
  kI64 = 5,
  kF64 = 6,
  kF32 = 7,
  kU16 = 8,
};

// Bytes of one element; 0 for a code that is none of the eight.
constexpr int64_t size_of(TokenType type) {
  switch (type) {
    case TokenType::kU8:
    case TokenType::kI8:
      return 1;
    case TokenType::kI16:
    case TokenType::kU16:
      return 2;
    case TokenType::kI32:
    case TokenType::kF32:
      return 4;
    case TokenType::kI64:
    case TokenType::kF64:
      return 8;
  }
  return 0;
}

constexpr std::string_view name(TokenType type) {
  switch (type) {
    case TokenType::kU8:
      return "uint8";
    case TokenType::kI8:
      return "int8";
    case TokenType::kI16:
      return "int16";
    case TokenType::kI32:
      return "int32";
    case TokenType::kI64:
      return "int64";
    case TokenType::kF64:
      return "float64";
    case TokenType::kF32:
      return "float32";
    case TokenType::kU16:
      return "uint16";
  }
  return "unknown";
}

// What Megatron's tool writes for a vocabulary of this size.
constexpr TokenType smallest_type(int64_t vocab_size) {
  return vocab_size < 65500 ? TokenType::kU16 : TokenType::kI32;
}

// Little-endian value at any address: nothing in an .idx file is aligned.
template <class T>
T load(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

}  // namespace flagscale::data
