#include "engine/dense_weights.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/gib.h"
#include "base/interrupt.h"
#include "base/log.h"
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
    pieces(name, rows, row, to, [&](int64_t first, int64_t count, std::byte* at) {
      weights_.read(name, first, count, dtype, {at, static_cast<size_t>(count) * row});
    });
  }

  // All parts of a parameter, as panels of its narrow weight.
  void copy_panels(const nn::Parameter& p) {
    const op::NarrowWeight& weight = p.narrow;
    const int64_t rows = p.shape[0];
    const auto panel = static_cast<size_t>(weight.data.dim(1));
    const int64_t of_panel = op::scales_of_panel(weight.format, weight.in);
    std::vector<uint16_t> scales(weight.scales.bytes() / sizeof(uint16_t));
    pieces(p.name, weight.data.dim(0), panel, weight.data.place(),
           [&](int64_t begin, int64_t count, std::byte* at) {
             std::ranges::fill(std::span(at, static_cast<size_t>(count) * panel), std::byte{0});
             std::vector<float> values(static_cast<size_t>(weight.in));
             const int64_t end = std::min(rows, (begin + count) * op::kPanelRows);
             for (int64_t row = begin * op::kPanelRows; row < end; ++row) {
               const std::span<uint8_t> own(
                   reinterpret_cast<uint8_t*>(at) + static_cast<size_t>(row / op::kPanelRows - begin) * panel,
                   panel);
               place_row(p, row, values, own, scales.data() + row / op::kPanelRows * of_panel);
             }
           });
    cuda::copy(weight.scales.place(), scales.data(), weight.scales.bytes());
  }

 private:
  // Fills pinned memory with rows of `row` bytes, all threads at once, and copies it; as often as it takes.
  template <class Fill>
  void pieces(const std::string& name, int64_t rows, size_t row, std::byte* to, const Fill& fill) {
    if (row > kPiece)
      fail(ErrorKind::kUnsupported, "a row of {} has {} bytes: at most {} on a GPU", name, row, kPiece);
    const auto most = static_cast<int64_t>(kPiece / row);
    for (int64_t begin = 0; begin < rows; begin += most) {
      const int64_t count = std::min(most, rows - begin);
      share_out(count, [&](int64_t first, int64_t own) {
        fill(begin + first, own, static_cast<std::byte*>(pinned_.get()) + static_cast<size_t>(first) * row);
      });
      cuda::copy(to + static_cast<size_t>(begin) * row, pinned_.get(), static_cast<size_t>(count) * row);
    }
  }

  void place_row(const nn::Parameter& p, int64_t row, std::span<float> values, std::span<uint8_t> panel,
                 uint16_t* scales) const {
    int64_t first = 0;
    auto part = p.parts.begin();
    for (; row >= first + part->rows; ++part) first += part->rows;
    try {
      if (p.narrow.format == op::Narrow::kFp8Blocks)
        return place_as_it_is(part->name, row - first, row % op::kPanelRows, panel, scales);
      weights_.read_f32(part->name, row - first, 1, values);
      op::narrow_row(p.narrow.format, values, row % op::kPanelRows, panel, scales);
    } catch (const Error&) {
      rethrow_with(part->name);
    }
  }

  void place_as_it_is(const std::string& name, int64_t row, int64_t of_panel, std::span<uint8_t> panel,
                      uint16_t* scales) const {
    const io::TensorInfo& info = weights_.info(name);
    const io::BlockScales& blocks = *weights_.scales(info);
    const auto q = weights_.row(info, row);
    std::vector<float> of_row;
    for (int64_t k = 0; k < info.row_elements(); k += op::columns_of_scale(op::Narrow::kFp8Blocks))
      of_row.push_back(blocks.at(row, k));
    op::place_fp8_row({reinterpret_cast<const uint8_t*>(q.data()), q.size()}, of_row, of_panel, panel,
                      scales);
  }

  template <class Body>
  void share_out(int64_t rows, const Body& body) {
    const int64_t share = std::max<int64_t>(1, (rows + 4 * team_.size() - 1) / (4 * team_.size()));
    std::exception_ptr error;
    std::mutex mutex;
    team_.for_each((rows + share - 1) / share, [&](int64_t i) {
      try {
        body(i * share, std::min(share, rows - i * share));
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

std::optional<op::Narrow> narrow_type(const WeightOptions& options) {
  if (options.fp8)
    return options.compute == op::Compute::kFast && cuda::multiplies_fp8() ? op::Narrow::kFp8Rows
                                                                           : op::Narrow::kFp8;
  if (!options.packing) return std::nullopt;
  switch (*options.packing) {
    case op::Packing::kInt8:
      return op::Narrow::kInt8;
    case op::Packing::kInt4:
      return op::Narrow::kInt4;
    case op::Packing::kQ4_0:
      return op::Narrow::kInt4By32;
    default:
      return std::nullopt;
  }
}

// Whether a file has all of a weight in e4m3 with scales that a panel's rows share.
bool is_in_blocks(const nn::Parameter& p, const io::WeightSet& weights) {
  int64_t left = std::ssize(p.parts);
  return std::ranges::all_of(p.parts, [&](const nn::Part& part) {
    const io::TensorInfo& info = weights.info(part.name);
    const io::BlockScales* scales = info.encoding == io::Encoding::kFp8 ? weights.scales(info) : nullptr;
    return scales && scales->rows > 1 && (--left == 0 || part.rows % op::kPanelRows == 0);
  });
}

// Not four bits: they cost a head much (docs/performance.md).
std::optional<op::Narrow> head_type(const WeightOptions& options) {
  if (!options.quantize_lm_head) return std::nullopt;
  const auto format = narrow_type(options);
  return format && options.packing ? op::Narrow::kInt8 : format;
}

// None: the embedding, which is looked up, what is precise, and the head, whose type is its own. Experts'
// products widen their weights.
std::optional<op::Narrow> narrow_type(const nn::Parameter& p, const io::WeightSet& weights,
                                      const WeightOptions& options) {
  auto format = narrow_type(options);
  if (!options.packing && !options.fp8 && is_in_blocks(p, weights)) format = op::Narrow::kFp8Blocks;
  if (!format || p.shape.rank() != 2 || p.shard == nn::Shard::kVocabulary || p.precise) return std::nullopt;
  if (p.shard != nn::Shard::kExpert) return format;
  if (p.shape[0] / p.groups % op::kPanelRows != 0)
    fail(ErrorKind::kUnsupported,
         "{} has {} rows an expert: in eight or four bits they are multiples of {} on a GPU; leave "
         "--quantization away",
         p.name, p.shape[0] / p.groups, op::kPanelRows);
  return format == op::Narrow::kFp8Rows ? op::Narrow::kFp8 : format;
}

}  // namespace

DType dense_type(const model::Decoder& decoder, const io::WeightSet& weights, const WeightOptions& options) {
  if (narrow_type(options) || options.packing == op::Packing::kBF16) return DType::kBF16;
  if (options.packing == op::Packing::kF32) return DType::kF32;
  if (options.packing)
    fail(ErrorKind::kUnsupported,
         "weights in {} have no kernels for a GPU yet: take --quantization fp8, int8 or int4, "
         "--dtype bfloat16 or float32, or --device cpu",
         op::info(*options.packing).name);
  for (const nn::Parameter& p : decoder.parameters().parameters())
    for (const nn::Part& part : p.parts)
      if (const io::TensorInfo& info = weights.info(part.name);
          p.shape.rank() == 2 && (info.encoding != io::Encoding::kPlain || info.dtype != DType::kF32))
        return DType::kBF16;
  return DType::kF32;
}

void place_dense(Arena& arena, model::Decoder& decoder, const io::WeightSet& weights, DType dtype,
                 const WeightOptions& options) {
  const auto of_head = head_type(options);
  const bool apart = of_head && &decoder.head() == &decoder.embedding();
  if (apart) decoder.separate_head();  // rows of the embedding are looked up as they were
  for (nn::Parameter& p : decoder.parameters().parameters()) {
    for (const nn::Part& part : p.parts) model::check_shape(weights.info(part.name), p, part);
    p.steady = true;
    const bool head = of_head && &p == &decoder.head();
    if (const auto narrow = head ? of_head : narrow_type(p, weights, options))
      p.narrow = {*narrow,
                  arena.persistent(p.name, op::narrow_shape(*narrow, p.shape[0], p.shape[1]), DType::kU8),
                  arena.persistent(p.name + ".scales", op::narrow_scales(*narrow, p.shape[0], p.shape[1]),
                                   op::scale_type(*narrow)),
                  p.shape[1], p.shape[0]};
    else
      p.value = arena.persistent(p.name, p.shape, dtype);
  }
  for (nn::Constant& c : decoder.parameters().constants())
    c.value = arena.persistent(c.name, c.shape, DType::kF32);
  if (apart)
    info(
        "quantize_lm_head: lm_head is the embedding, which stays in {} to be looked up: its copy in {} takes "
        "{}",
        name(dtype), op::name(*of_head), gib(decoder.head().narrow.bytes()));
}

void upload_weights(model::Decoder& decoder, const io::WeightSet& weights, DeviceKind device,
                    const Team& team) {
  Upload upload(weights, device, team);
  for (const nn::Parameter& p : decoder.parameters().parameters()) {
    throw_if_interrupted();
    if (p.narrow.defined()) {
      upload.copy_panels(p);
      continue;
    }
    const int64_t width = p.shape.numel() / p.shape[0];
    std::byte* to = p.value.place();
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
