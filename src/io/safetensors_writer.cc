#include "io/safetensors_writer.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "base/check.h"
#include "base/error.h"
#include "io/atomic_file.h"
#include "io/safetensors.h"

namespace flagscale::io {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {
constexpr uint64_t kConvertedAtOnce = uint64_t{8} << 20;

void write_data(AtomicFile& file, const OutputTensor& tensor, std::vector<std::byte>& buffer) {
  const uint64_t total = tensor.bytes();
  if (total == 0) return;
  const int64_t rows = tensor.shape.empty() ? 1 : tensor.shape[0];
  const uint64_t row = total / static_cast<uint64_t>(rows);
  const auto step = static_cast<int64_t>(std::max<uint64_t>(1, kConvertedAtOnce / row));
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t count = std::min(step, rows - begin);
    buffer.resize(static_cast<size_t>(count) * row);
    tensor.fill(begin, count, buffer);
    file.write(buffer);
  }
}

void make_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(ErrorKind::kResource, "{}: cannot make the folder: {}", folder, error.message());
}

}  // namespace

void remove_stale_weights(const std::string& folder, const std::set<std::string>& kept) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool ours = name == "model.safetensors" || name == "model.safetensors.index.json" ||
                      (name.starts_with("model-0") && name.ends_with(".safetensors"));
    if (ours && !kept.contains(name)) fs::remove(entry.path());
  }
}

uint64_t OutputTensor::bytes() const {
  uint64_t result = size_of(dtype);
  for (const int64_t dim : shape) result *= static_cast<uint64_t>(dim);
  return result;
}

OutputTensor from_memory(std::string name, DType dtype, std::vector<int64_t> shape,
                         std::span<const std::byte> data) {
  OutputTensor tensor{std::move(name), dtype, std::move(shape), {}};
  FLAGSCALE_CHECK(data.size() == tensor.bytes());
  const uint64_t rows = tensor.shape.empty() ? 1 : static_cast<uint64_t>(tensor.shape[0]);
  const uint64_t row = rows == 0 ? 0 : data.size() / rows;
  tensor.fill = [data, row](int64_t begin, int64_t, std::span<std::byte> out) {
    std::memcpy(out.data(), data.data() + static_cast<uint64_t>(begin) * row, out.size());
  };
  return tensor;
}

OutputTensor from_weights(const WeightSet& weights, const TensorInfo& info, DType dtype) {
  return {info.name, dtype, info.shape,
          [&weights, &info, dtype](int64_t begin, int64_t rows, std::span<std::byte> out) {
            weights.read(info.name, begin, rows, dtype, out);
          }};
}

std::string safetensors_header(std::span<const OutputTensor> tensors, const Metadata& metadata) {
  std::string text = "{";
  if (!metadata.empty()) text += "\"__metadata__\":" + Json(metadata).dump();
  std::set<std::string_view> seen;
  uint64_t at = 0;
  for (const OutputTensor& tensor : tensors) {
    if (!seen.insert(tensor.name).second)
      fail(ErrorKind::kInvalidArgument, "tensor '{}' is to be written twice", tensor.name);
    const Json entry{{"dtype", std::string(safetensors_name(tensor.dtype))},
                     {"shape", tensor.shape},
                     {"data_offsets", {at, at + tensor.bytes()}}};
    if (text.size() > 1) text += ',';
    text += Json(tensor.name).dump() + ":" + entry.dump();
    at += tensor.bytes();
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + text;
}

void write_safetensors(const std::string& path, std::vector<OutputTensor> tensors, const Metadata& metadata) {
  // Wide elements first, so that every tensor is aligned to its element.
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const auto& a, const auto& b) { return size_of(a.dtype) > size_of(b.dtype); });
  AtomicFile file(path);
  file.write(safetensors_header(tensors, metadata));
  std::vector<std::byte> buffer;
  for (const OutputTensor& tensor : tensors) write_data(file, tensor, buffer);
  file.commit();
}

void write_model_folder(const std::string& folder, std::vector<OutputTensor> tensors,
                        uint64_t max_shard_bytes, const Metadata& metadata) {
  std::vector<std::vector<OutputTensor>> shards(1);
  uint64_t in_shard = 0, total = 0;
  for (OutputTensor& tensor : tensors) {
    const uint64_t bytes = tensor.bytes();
    if (!shards.back().empty() && in_shard + bytes > max_shard_bytes) shards.emplace_back(), in_shard = 0;
    in_shard += bytes;
    total += bytes;
    shards.back().push_back(std::move(tensor));
  }
  make_folder(folder);
  if (shards.size() == 1) {
    write_safetensors(folder + "/model.safetensors", std::move(shards[0]), metadata);
    return remove_stale_weights(folder, {"model.safetensors"});
  }
  Json index{{"metadata", {{"total_size", total}}}, {"weight_map", Json::object()}};
  std::set<std::string> kept{"model.safetensors.index.json"};
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    for (const OutputTensor& tensor : shards[i]) index["weight_map"][tensor.name] = name;
    kept.insert(name);
    write_safetensors(folder + "/" + name, std::move(shards[i]), metadata);
  }
  write_file(folder + "/model.safetensors.index.json", index.dump(2) + "\n");
  remove_stale_weights(folder, kept);
}

}  // namespace flagscale::io
