#pragma once
// Writing of safetensors: one file, or a model's folder cut into shards. Files appear whole or not at all
// (AtomicFile). Tensors are produced some rows at a time, so a model larger than memory can be written.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "io/weights.h"
#include "tensor/dtype.h"

namespace flagscale::io {

struct OutputTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  // Fills rows [begin, begin + rows) of dimension 0; out holds exactly their bytes.
  std::function<void(int64_t begin, int64_t rows, std::span<std::byte> out)> fill;

  uint64_t bytes() const;
};
OutputTensor from_memory(std::string name, DType dtype, std::vector<int64_t> shape,
                         std::span<const std::byte> data);
OutputTensor from_weights(const WeightSet& weights, const TensorInfo& info,
                          DType dtype);  // both must outlive it

using Metadata = std::map<std::string, std::string>;
constexpr const char *kWriterKey = "written_by", *kWriter = "flagscale";  // in the metadata of our files
constexpr const char* kSourceKey = "made_from";  // a model: source_mark() of its source
void write_safetensors(const std::string& path, std::vector<OutputTensor> tensors,
                       const Metadata& metadata = {{"format", "pt"}, {kWriterKey, kWriter}});

// model.safetensors, or model-00001-of-00003.safetensors ... with model.safetensors.index.json when the whole
// is larger than `max_shard_bytes`. Makes the folder; stale model*.safetensors of an earlier export go once
// all is written.
void write_model_folder(const std::string& folder, std::vector<OutputTensor> tensors,
                        uint64_t max_shard_bytes = uint64_t{5'000'000'000},
                        const Metadata& metadata = {{"format", "pt"}, {kWriterKey, kWriter}});

// Removes the files of an earlier write_model_folder() that are not among `kept`.
void remove_stale_weights(const std::string& folder, const std::set<std::string>& kept);

// The header of a file with these tensors in this order, padded to 8 bytes: length, then JSON.
std::string safetensors_header(std::span<const OutputTensor> tensors, const Metadata& metadata);

}  // namespace flagscale::io
