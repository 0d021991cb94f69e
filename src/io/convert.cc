#include "io/convert.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/interrupt.h"
#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/gguf_weights.h"
#include "io/safetensors_writer.h"
#include "io/weights.h"

namespace flagscale::io {

namespace {
void make_folder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail(ErrorKind::kResource, "{}: cannot make the folder: {}", folder, error.message());
}

void write_weights(const WeightSet& weights, const std::string& folder, const ConvertOptions& options) {
  std::vector<OutputTensor> tensors;
  for (const TensorInfo& info : weights.tensors()) {
    OutputTensor tensor = from_weights(weights, info, options.dtype);
    tensor.fill = [fill = std::move(tensor.fill), &options](int64_t begin, int64_t rows,
                                                            std::span<std::byte> out) {
      throw_if_interrupted();
      fill(begin, rows, out);
      if (options.progress) options.progress(out.size());
    };
    tensors.push_back(std::move(tensor));
  }
  write_model_folder(folder, std::move(tensors), options.max_shard_bytes);
}

std::string config_of(const std::string& path) {
  if (!is_checkpoint(path)) return read_file(path + "/config.json");
  const Checkpoint checkpoint(path);
  const auto it = checkpoint.state().extra.find("config.json");
  if (it == checkpoint.state().extra.end())
    fail(ErrorKind::kNotFound, "{}: the checkpoint carries no config.json: its model cannot be exported",
         checkpoint.folder());
  return it->second;
}

std::string with_dtype(const std::string& where, const std::string& config, DType dtype) {
  auto json = nlohmann::ordered_json::parse(config, nullptr, false);
  if (!json.is_object()) fail(ErrorKind::kCorrupt, "{}: config.json is not a JSON object", where);
  json.erase("dtype");
  json["torch_dtype"] = flagscale::name(dtype);
  return json.dump(2) + "\n";
}
}  // namespace

uint64_t converted_bytes(const std::string& path, DType dtype) {
  const auto weights = open_weights(path);
  uint64_t result = 0;
  for (const TensorInfo& info : weights->tensors())
    result += static_cast<uint64_t>(info.numel()) * size_of(dtype);
  return result;
}

void import_gguf(const std::string& file, const std::string& folder, const ConvertOptions& options) {
  const GgufFile gguf(file);
  const std::string config =
      gguf_config_json(gguf, options.dtype);  // refuses what cannot be expressed, before any write
  const auto weights = open_gguf_weights(file);
  for (const TensorInfo& info : weights->tensors())
    if (!info.name.starts_with("model.") && info.name != "lm_head.weight")
      fail(ErrorKind::kUnsupported, "{}: tensor '{}' has no place in a Hugging Face {} model", file,
           info.name, gguf.architecture());
  make_folder(folder);
  write_weights(*weights, folder, options);
  write_file(folder + "/generation_config.json", gguf_generation_config_json(gguf));
  write_file(folder + "/tokenizer_config.json", gguf_tokenizer_config_json(gguf));
  write_file(folder + "/config.json", config);
}

void export_weights(const std::string& path, const std::string& folder, const ConvertOptions& options) {
  const std::string config = with_dtype(path, config_of(path), options.dtype);
  const auto weights = open_weights(path);
  make_folder(folder);
  write_weights(*weights, folder, options);
  write_file(folder + "/config.json", config);
}

}  // namespace flagscale::io
