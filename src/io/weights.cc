#include "io/weights.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "base/error.h"
#include "base/nearest.h"
#include "io/checkpoint.h"
#include "io/checkpoint_weights.h"
#include "io/gguf_weights.h"
#include "io/safetensors.h"

namespace flagscale::io {

int64_t TensorInfo::numel() const {
  int64_t n = 1;
  for (const int64_t dim : shape) n *= dim;
  return n;
}

void WeightSet::add(TensorInfo info) {
  if (!by_name_.emplace(info.name, tensors_.size()).second)
    fail(ErrorKind::kCorrupt, "{}: tensor '{}' is there twice", info.file, info.name);
  tensors_.push_back(std::move(info));
}

const TensorInfo* WeightSet::find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

const TensorInfo& WeightSet::info(std::string_view name) const {
  if (const TensorInfo* found = find(name)) return *found;
  if (tensors_.empty())
    fail(ErrorKind::kNotFound, "tensor '{}' is not there: the file holds no tensors", name);
  std::vector<std::string> names;
  for (const TensorInfo& tensor : tensors_) names.push_back(tensor.name);
  const std::string near = nearest(name, names);
  fail(ErrorKind::kNotFound, "{}: tensor '{}' is not there{}", tensors_[0].file, name,
       near.empty() ? "" : fmt::format("; did you mean '{}'?", near));
}

size_t WeightSet::index_of(const TensorInfo& info) const {
  const auto index = static_cast<size_t>(&info - tensors_.data());
  FLAGSCALE_CHECK(index < tensors_.size());  // an info of another set
  return index;
}

std::span<const std::byte> WeightSet::row(const TensorInfo& info, int64_t i) const {
  const size_t index = index_of(info);
  FLAGSCALE_CHECK(i >= 0 && i < info.rows());
  const BlockSize block = block_size(info.encoding, info.dtype);
  if (info.row_elements() % block.elements != 0)
    fail(ErrorKind::kUnsupported, "{}: a row of tensor '{}' is not whole {} blocks", info.file, info.name,
         io::name(info.encoding));
  const int64_t bytes = info.row_elements() / block.elements * block.bytes;
  return stored(index).subspan(static_cast<size_t>(stored_row(index, i) * bytes), static_cast<size_t>(bytes));
}

std::span<const std::byte> WeightSet::bytes(const TensorInfo& info) const {
  const size_t index = index_of(info);
  return in_order(index) ? stored(index) : std::span<const std::byte>{};
}

const BlockScales* WeightSet::scales(const TensorInfo& info) const {
  const auto it = scales_.find(index_of(info));
  return it == scales_.end() ? nullptr : &it->second;
}

namespace {

constexpr std::string_view kScaleSuffixes[] = {"_scale_inv", "_scale"};

BlockScales block_scales(const TensorInfo& tensor, const TensorInfo& scale) {
  constexpr int64_t kBlock = 128;
  const int64_t rows = tensor.rows(), width = tensor.row_elements();
  const auto blocks = [](int64_t n) { return (n + kBlock - 1) / kBlock; };
  if (scale.numel() == 1) return {{}, rows, width, 1};
  if (scale.rows() == rows && scale.numel() == rows) return {{}, 1, width, 1};
  if (tensor.shape.size() == 2 && scale.shape == std::vector{blocks(rows), blocks(width)})
    return {{}, kBlock, kBlock, blocks(width)};
  fail(ErrorKind::kCorrupt,
       "{}: {} is [{}]: one scale, one for each of the {} rows of {}, or [{}, {}] of blocks "
       "of 128 by 128 are read",
       scale.file, scale.name, fmt::join(scale.shape, ", "), rows, tensor.name, blocks(rows), blocks(width));
}

}  // namespace

bool is_scale(std::string_view name) {
  return name.ends_with("input_scale") ||
         std::ranges::any_of(kScaleSuffixes, [&](std::string_view suffix) { return name.ends_with(suffix); });
}

void WeightSet::find_scales() {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const TensorInfo& tensor = tensors_[i];
    if (tensor.encoding != Encoding::kFp8 || tensor.numel() == 0) continue;
    for (const std::string_view suffix : kScaleSuffixes)
      if (const TensorInfo* scale = find(tensor.name + std::string(suffix))) {
        BlockScales found = block_scales(tensor, *scale);
        found.values = read_f32(scale->name);
        scales_[i] = std::move(found);
        break;
      }
  }
}

void WeightSet::read_f32(std::string_view name, int64_t begin, int64_t rows, std::span<float> out) const {
  const TensorInfo& tensor = info(name);
  if (begin < 0 || rows < 0 || begin > tensor.rows() - rows)
    fail(ErrorKind::kInvalidArgument, "{}: tensor '{}' has {} rows, asked for {} from {}", tensor.file, name,
         tensor.rows(), rows, begin);
  const int64_t width = tensor.row_elements();
  FLAGSCALE_CHECK(static_cast<int64_t>(out.size()) == rows * width);
  const size_t index = index_of(tensor);
  const auto data = stored(index);
  if (const BlockScales* scales = this->scales(tensor)) {
    decode_f32(tensor.encoding, tensor.dtype, data, begin * width, out);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < width;) {
        const float scale = scales->at(begin + i, k);
        for (const int64_t end = std::min(width, k + scales->columns); k < end; ++k)
          out[static_cast<size_t>(i * width + k)] *= scale;
      }
    return;
  }
  if (in_order(index)) return decode_f32(tensor.encoding, tensor.dtype, data, begin * width, out);
  for (int64_t i = 0; i < rows; ++i)
    decode_f32(tensor.encoding, tensor.dtype, data, stored_row(index, begin + i) * width,
               out.subspan(static_cast<size_t>(i * width), static_cast<size_t>(width)));
}

void WeightSet::read(std::string_view name, int64_t begin, int64_t rows, DType dtype,
                     std::span<std::byte> out) const {
  const TensorInfo& tensor = info(name);
  const int64_t width = tensor.row_elements();
  FLAGSCALE_CHECK(out.size() == static_cast<size_t>(rows * width) * size_of(dtype));
  const size_t index = index_of(tensor);
  if (tensor.encoding == Encoding::kPlain && tensor.dtype == dtype && in_order(index) && begin >= 0 &&
      rows >= 0 && begin <= tensor.rows() - rows) {
    const auto from = stored(index).subspan(static_cast<size_t>(begin * width) * size_of(dtype), out.size());
    std::copy(from.begin(), from.end(), out.begin());
    return;
  }
  if (dtype == DType::kF32 && reinterpret_cast<uintptr_t>(out.data()) % alignof(float) == 0)
    return read_f32(name, begin, rows, {reinterpret_cast<float*>(out.data()), out.size() / sizeof(float)});
  // Through fp32, some rows at a time: what is read may be far larger than what memory is left.
  const int64_t step = std::max<int64_t>(1, (int64_t{1} << 18) / std::max<int64_t>(1, width));
  std::vector<float> wide;
  for (int64_t i = 0; i < rows; i += step) {
    const int64_t count = std::min(step, rows - i);
    wide.resize(static_cast<size_t>(count * width));
    read_f32(name, begin + i, count, wide);
    encode_plain(wide, dtype,
                 out.subspan(static_cast<size_t>(i * width) * size_of(dtype), wide.size() * size_of(dtype)));
  }
}

std::vector<float> WeightSet::read_f32(std::string_view name) const {
  const TensorInfo& tensor = info(name);
  std::vector<float> result(static_cast<size_t>(tensor.numel()));
  read_f32(name, 0, tensor.rows(), result);
  return result;
}

std::unique_ptr<WeightSet> open_weights(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    fail(ErrorKind::kNotFound, "{}: {}", path, error ? error.message() : "no such file or folder");
  if (is_checkpoint(path)) return open_checkpoint_weights(path);
  if (is_gguf(path) || path.ends_with(".gguf")) return open_gguf_weights(path);
  try {
    return open_safetensors(path);
  } catch (const Error& caught) {
    if (caught.kind() != ErrorKind::kCorrupt || path.ends_with(".safetensors") ||
        !std::filesystem::is_regular_file(path, error))
      throw;
    fail(ErrorKind::kCorrupt,
         "{} is none of what weights are read from: a Hugging Face folder, a safetensors file, a .gguf file, "
         "a "
         "checkpoint",
         path);
  }
}

}  // namespace flagscale::io
