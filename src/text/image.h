#pragma once
// Tables as bytes that can be mapped and used where they lie: numbers and arrays one after another, each at a
// multiple of 8. An ImageReader never reads beyond its bytes: what does not fit makes it !good(), and empty.

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "text/shared_array.h"

namespace flagscale::text {

class ImageWriter {
 public:
  void number(uint64_t value) { raw(&value, sizeof value); }
  void flags(std::initializer_list<bool> flags) {
    uint64_t value = 0, bit = 1;
    for (const bool flag : flags) value |= flag ? bit : 0, bit <<= 1;
    number(value);
  }
  template <class T>
  void array(std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= 8);
    number(values.size());
    raw(values.data(), values.size_bytes());
  }
  void text(std::string_view text) { array(std::span(text.data(), text.size())); }
  std::string take() { return std::move(bytes_); }

 private:
  void raw(const void* data, size_t size) {
    if (size > 0) bytes_.append(static_cast<const char*>(data), size);
    bytes_.resize((bytes_.size() + 7) / 8 * 8);
  }
  std::string bytes_;
};

class ImageReader {
 public:
  // bytes: aligned to 8. memory: what keeps them; the arrays that are read keep it.
  ImageReader(std::span<const std::byte> bytes, std::shared_ptr<const void> memory)
      : bytes_(bytes), memory_(std::move(memory)) {}
  bool good() const { return good_; }
  bool done() const { return good_ && bytes_.empty(); }
  uint64_t number() {
    uint64_t value = 0;
    if (const std::byte* const at = take(sizeof value)) std::memcpy(&value, at, sizeof value);
    return value;
  }
  void flags(std::initializer_list<bool*> flags) {
    uint64_t value = number();
    for (bool* flag : flags) *flag = value & 1, value >>= 1;
  }
  template <class T>
  SharedArray<T> array() {
    const uint64_t count = number();
    good_ = good_ && count <= bytes_.size() / sizeof(T);
    const std::byte* const at = take(good_ ? count * sizeof(T) : 0);
    if (!at) return {};
    return {std::span(reinterpret_cast<const T*>(at), static_cast<size_t>(count)), memory_};
  }
  template <class T>
  std::vector<T> copy() {  // of an array
    const auto stored = array<T>();
    return {stored.begin(), stored.end()};
  }
  std::string text() {
    const auto characters = array<char>();
    return {characters.begin(), characters.end()};
  }

 private:
  const std::byte* take(uint64_t size) {
    const uint64_t whole = (size + 7) / 8 * 8;
    if (!good_ || whole > bytes_.size()) return good_ = false, nullptr;
    const std::byte* const at = bytes_.data();
    bytes_ = bytes_.subspan(whole);
    return at;
  }
  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> memory_;
  bool good_ = true;
};

}  // namespace flagscale::text
