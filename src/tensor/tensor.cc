#include "tensor/tensor.h"

#include <fmt/format.h>

#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "device/cuda/cuda.h"

namespace flagscale {

Shape::Shape(std::initializer_list<int64_t> dims) {
  for (int64_t dim : dims) push_back(dim);
}

void Shape::push_back(int64_t dim) {
  FLAGSCALE_CHECK(rank_ < kMaxRank);
  dims_[static_cast<size_t>(rank_++)] = dim;
}

int64_t Shape::numel() const {
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= dims_[static_cast<size_t>(i)];
  return n;
}

bool Shape::operator==(const Shape& other) const {
  if (rank_ != other.rank_) return false;
  for (int i = 0; i < rank_; ++i)
    if ((*this)[i] != other[i]) return false;
  return true;
}

std::string Shape::str() const {
  return fmt::format("[{}]", fmt::join(dims_.begin(), dims_.begin() + rank_, ", "));
}

Tensor::Tensor(std::shared_ptr<Storage> storage, size_t offset, DType dtype, Shape shape, const int64_t* live)
    : storage_(std::move(storage)),
      offset_(offset),
      dtype_(dtype),
      shape_(shape),
      strides_(shape),
      live_(live) {
  int64_t stride = 1;
  for (int i = shape_.rank() - 1; i >= 0; --i) {
    strides_[i] = stride;
    stride *= shape_[i];
  }
}

bool Tensor::contiguous() const {
  int64_t stride = 1;
  for (int i = shape_.rank() - 1; i >= 0; --i) {
    if (shape_[i] != 1 && strides_[i] != stride) return false;
    stride *= shape_[i];
  }
  return true;
}

void* Tensor::raw() const {
  if (!storage_ || !storage_->data)
    fail(ErrorKind::kInvalidArgument, "[tensor] {} has no value yet: it is being traced, not run",
         shape_.str());
  FLAGSCALE_CHECK(storage_->device.kind != DeviceKind::kCuda);
  return static_cast<std::byte*>(storage_->data) + offset_;
}

std::byte* Tensor::place() const {
  FLAGSCALE_CHECK(contiguous() && storage_ && storage_->data);
  return static_cast<std::byte*>(storage_->data) + offset_;
}

void copy_to_host(const Tensor& from, void* to) {
  if (from.device().kind == DeviceKind::kCuda)
    cuda::copy(to, from.place(), from.bytes());
  else
    std::memcpy(to, from.place(), from.bytes());
}

void copy_from_host(const void* from, const Tensor& to) {
  if (to.device().kind == DeviceKind::kCuda)
    cuda::copy(to.place(), from, to.bytes());
  else
    std::memcpy(to.place(), from, to.bytes());
}

Tensor Tensor::reshape(Shape shape) const {
  if (!contiguous() || shape.numel() != shape_.numel())
    fail(ErrorKind::kInvalidArgument, "[reshape] {} cannot become {}", shape_.str(), shape.str());
  return {storage_, offset_, dtype_, shape, live_};
}

Tensor Tensor::columns(int64_t begin, int64_t count) const {
  const int last = shape_.rank() - 1;
  if (begin < 0 || count < 0 || begin + count > shape_[last])
    fail(ErrorKind::kInvalidArgument, "[columns] {}..{} of {}", begin, begin + count, shape_.str());
  Tensor result = *this;
  result.offset_ += static_cast<size_t>(begin) * size_of(dtype_);
  result.shape_[last] = count;
  return result;
}

Tensor Tensor::rows(int64_t begin, int64_t count) const {
  if (begin < 0 || count < 0 || begin + count > shape_[0])
    fail(ErrorKind::kInvalidArgument, "[rows] {}..{} of {}", begin, begin + count, shape_.str());
  Tensor result = *this;
  result.offset_ += static_cast<size_t>(begin * strides_[0]) * size_of(dtype_);
  result.shape_[0] = count;
  return result;
}

Tensor Tensor::with_live(const int64_t* live) const {
  Tensor result = *this;
  result.live_ = live;
  return result;
}

Tensor Tensor::moved_to(std::shared_ptr<Storage> storage, size_t base) const {
  Tensor result = *this;
  result.storage_ = std::move(storage);
  result.offset_ += base;
  return result;
}

TensorView Tensor::view() const {
  TensorView view;
  if (!defined()) return view;
  view.dtype = dtype_;
  view.rank = shape_.rank();
  for (int i = 0; i < view.rank; ++i) {
    view.dims[static_cast<size_t>(i)] = shape_[i];
    view.strides[static_cast<size_t>(i)] = strides_[i];
  }
  view.live = live_;
  view.storage = storage_.get();
  view.offset = offset_;
  view.data = storage_->data ? static_cast<std::byte*>(storage_->data) + offset_ : nullptr;
  return view;
}

Tensor make_tensor(Allocator& allocator, const Shape& shape, DType dtype) {
  auto storage = std::make_shared<Storage>();
  storage->bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
  storage->owner = allocator.allocate(storage->bytes);
  storage->data = storage->owner.get();
  return {storage, 0, dtype, shape};
}

Tensor wrap(void* data, const Shape& shape, DType dtype) {
  auto storage = std::make_shared<Storage>();
  storage->bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
  storage->data = data;
  return {storage, 0, dtype, shape};
}

}  // namespace flagscale
