#pragma once
// Tensor: a value handle on shared storage with dtype, shape and strides (in elements). TensorView: what
// kernels take.
//
// dims[0] may be a capacity with a live count: `live`, when set, points to the number of leading rows that
// are in use, read when a kernel runs. So one plan serves every batch up to its capacity.

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "device/device.h"
#include "tensor/dtype.h"

namespace flagscale {

constexpr int kMaxRank = 5;

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[i < 0 ? i + rank_ : i]; }
  int64_t& operator[](int i) { return dims_[i < 0 ? i + rank_ : i]; }
  void push_back(int64_t dim);
  int64_t numel() const;
  bool operator==(const Shape& other) const;
  std::string str() const;  // "[2, 3]"

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

// A block of memory, or the promise of one: data is null until a plan is bound or the block is allocated.
struct Storage {
  Device device;
  size_t bytes = 0;
  void* data = nullptr;
  std::shared_ptr<void> owner;  // keeps data alive; null where an arena does
};

struct TensorView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<int64_t, kMaxRank> dims{}, strides{};
  const int64_t* live = nullptr;
  const Storage* storage = nullptr;  // where data comes from, for planning
  size_t offset = 0;                 // bytes from the storage's start

  template <class T>
  T* ptr() const {
    return static_cast<T*>(data);
  }
  bool defined() const { return storage != nullptr; }
  int64_t dim(int i) const { return dims[static_cast<size_t>(i < 0 ? i + rank : i)]; }
  int64_t cols() const { return rank == 0 ? 1 : dim(-1); }
  // Rows in use when the view is seen as [rows, cols].
  int64_t rows() const {
    int64_t n = 1;
    for (int i = 0; i + 1 < rank; ++i) n *= i == 0 && live ? *live : dims[static_cast<size_t>(i)];
    return n;
  }
  // Never a function of its own: kernels of one instruction set must not share theirs with others.
  [[gnu::always_inline]] int64_t size() const {
    return rank == 1 ? (live ? *live : dims[0]) : rows() * cols();
  }
  int64_t row_stride() const { return rank < 2 ? cols() : strides[static_cast<size_t>(rank - 2)]; }
};

class Tensor {
 public:
  Tensor() = default;
  Tensor(std::shared_ptr<Storage> storage, size_t offset, DType dtype, Shape shape,
         const int64_t* live = nullptr);

  bool defined() const { return storage_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }
  const Shape& strides() const { return strides_; }
  const int64_t* live() const { return live_; }
  Device device() const { return storage_->device; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  size_t offset() const { return offset_; }
  bool contiguous() const;
  size_t bytes() const { return static_cast<size_t>(shape_.numel()) * size_of(dtype_); }

  // Where its first element lies, on whatever device.
  std::byte* place() const;

  // The memory, in the host's reach. Throws Error while tracing: it exists once allocated, or once its plan
  // is bound. Memory of a GPU is reached by copy_to_host() and copy_from_host() alone.
  template <class T>
  T* data() const {
    return static_cast<T*>(raw());
  }
  void* raw() const;

  Tensor reshape(Shape shape) const;                   // contiguous tensors only
  Tensor columns(int64_t begin, int64_t count) const;  // of the last dim
  Tensor rows(int64_t begin, int64_t count) const;     // of the first dim
  Tensor with_live(const int64_t* live) const;
  Tensor moved_to(std::shared_ptr<Storage> storage,
                  size_t base) const;  // the same geometry `base` bytes into another
  TensorView view() const;
  operator TensorView() const { return view(); }  // NOLINT(google-explicit-constructor): kernels take views

 private:
  std::shared_ptr<Storage> storage_;
  size_t offset_ = 0;  // bytes
  DType dtype_ = DType::kF32;
  Shape shape_, strides_;
  const int64_t* live_ = nullptr;
};

// Allocates now.
Tensor make_tensor(Allocator& allocator, const Shape& shape, DType dtype);
// All numbers of a contiguous tensor, wherever it lies, to and from the host's memory.
void copy_to_host(const Tensor& from, void* to);
void copy_from_host(const void* from, const Tensor& to);
// Memory that somebody else keeps (a mapped file, a vector).
Tensor wrap(void* data, const Shape& shape, DType dtype);

}  // namespace flagscale
