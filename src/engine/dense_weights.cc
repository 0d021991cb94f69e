#include "engine/dense_weights.h"

#include <algorithm>
#include <exception>
#include <mutex>

#include "base/error.h"
#include "base/interrupt.h"
#include "device/cuda/cuda.h"
#include "model/weights.h"

namespace flagscale::engine {

namespace {

constexpr size_t kPiece = size_t{64} << 20;  // of memory that is filled by all threads, then copied

// Rows of a tensor by way of pinned memory, which the bus reads at its full speed.
class Upload {
 public:
  Upload(const io::WeightSet& weights, DeviceKind device, const Team& team)
      : weights_(weights), team_(team), allocator_(make_shared_allocator(device)) {
    pinned_ = allocator_->allocate(kPiece);
  }

  // All of `name` to `to`, rows of `width` numbers.
  void copy(const std::string& name, int64_t rows, int64_t width, DType dtype, std::byte* to) {
    const size_t row = static_cast<size_t>(width) * size_of(dtype);
    if (row > kPiece)
      fail(ErrorKind::kUnsupported, "a row of {} has {} bytes: at most {} on a GPU", name, row, kPiece);
    const auto most = static_cast<int64_t>(kPiece / row);
    for (int64_t begin = 0; begin < rows; begin += most) {
      const int64_t count = std::min(most, rows - begin);
      read(name, begin, count, row, dtype);
      cuda::copy(to + static_cast<size_t>(begin) * row, pinned_.get(), static_cast<size_t>(count) * row);
    }
  }

 private:
  void read(const std::string& name, int64_t begin, int64_t rows, size_t row, DType dtype) {
    const int64_t share = std::max<int64_t>(1, (rows + 4 * team_.size() - 1) / (4 * team_.size()));
    std::exception_ptr error;
    std::mutex mutex;
    team_.for_each((rows + share - 1) / share, [&](int64_t i) {
      const int64_t first = i * share, count = std::min(share, rows - first);
      try {
        weights_.read(name, begin + first, count, dtype,
                      {static_cast<std::byte*>(pinned_.get()) + static_cast<size_t>(first) * row,
                       static_cast<size_t>(count) * row});
      } catch (...) {
        const std::lock_guard lock(mutex);
        error = std::current_exception();
      }
    });
    if (error) std::rethrow_exception(error);
  }

  const io::WeightSet& weights_;
  const Team& team_;
  std::unique_ptr<Allocator> allocator_;
  std::shared_ptr<void> pinned_;
};

}  // namespace

DType dense_type(const model::Decoder& decoder, const io::WeightSet& weights, const WeightOptions& options) {
  if (options.packing) {
    if (*options.packing == op::Packing::kF32) return DType::kF32;
    if (*options.packing == op::Packing::kBF16) return DType::kBF16;
    fail(ErrorKind::kUnsupported,
         "weights in {} have no kernels for a GPU yet: take --dtype bfloat16 or float32, or --device cpu",
         op::info(*options.packing).name);
  }
  for (const nn::Parameter& p : decoder.parameters().parameters())
    for (const nn::Part& part : p.parts)
      if (const io::TensorInfo& info = weights.info(part.name);
          p.shape.rank() == 2 && (info.encoding != io::Encoding::kPlain || info.dtype != DType::kF32))
        return DType::kBF16;
  return DType::kF32;
}

void place_dense(Arena& arena, model::Decoder& decoder, const io::WeightSet& weights, DType dtype) {
  for (nn::Parameter& p : decoder.parameters().parameters()) {
    for (const nn::Part& part : p.parts) model::check_shape(weights.info(part.name), p, part);
    p.value = arena.persistent(p.name, p.shape, dtype);
    p.steady = true;
  }
  for (nn::Constant& c : decoder.parameters().constants())
    c.value = arena.persistent(c.name, c.shape, DType::kF32);
}

void upload_weights(model::Decoder& decoder, const io::WeightSet& weights, DeviceKind device,
                    const Team& team) {
  Upload upload(weights, device, team);
  for (const nn::Parameter& p : decoder.parameters().parameters()) {
    throw_if_interrupted();
    const int64_t width = p.shape.numel() / p.shape[0];
    auto* to = static_cast<std::byte*>(p.value.storage()->data) + p.value.offset();
    for (const nn::Part& part : p.parts) {
      upload.copy(part.name, part.rows, width, p.value.dtype(), to);
      to += static_cast<size_t>(part.rows * width) * size_of(p.value.dtype());
    }
  }
  std::vector<float> values;
  for (const nn::Constant& c : decoder.parameters().constants()) {
    values.resize(static_cast<size_t>(c.shape.numel()));
    c.fill(values.data());
    copy_from_host(values.data(), c.value);
  }
}

}  // namespace flagscale::engine
