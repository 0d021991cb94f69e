#pragma once
// An array that cannot change, and what keeps it: a vector of its own, or a mapped file that it lies in.
// Copies share it.

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace flagscale::text {

template <class T>
class SharedArray {
 public:
  SharedArray() = default;
  SharedArray(std::vector<T> elements) {  // NOLINT(google-explicit-constructor)
    auto kept = std::make_shared<const std::vector<T>>(std::move(elements));
    data_ = kept->data();
    size_ = kept->size();
    memory_ = std::move(kept);
  }
  SharedArray(std::span<const T> elements, std::shared_ptr<const void> memory)
      : data_(elements.data()), size_(elements.size()), memory_(std::move(memory)) {}

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const T& operator[](size_t i) const { return data_[i]; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  std::span<const T> span() const { return {data_, size_}; }

 private:
  const T* data_ = nullptr;
  size_t size_ = 0;
  std::shared_ptr<const void> memory_;
};

}  // namespace flagscale::text
