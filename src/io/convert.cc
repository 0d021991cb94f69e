#include "io/convert.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/interrupt.h"
#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/folder_aside.h"
#include "io/gguf_weights.h"
#include "io/safetensors_writer.h"
#include "io/tokenizer_files.h"
#include "io/weights.h"

namespace flagscale::io {

namespace {
// Some rows of a weight, changed.
void fill_changed(const WeightSet& weights, const TensorInfo& info, const ConvertOptions& options,
                  int64_t begin, int64_t rows, std::span<std::byte> out) {
  const int64_t width = info.row_elements();
  const int64_t step = std::max<int64_t>(1, (int64_t{1} << 18) / std::max<int64_t>(1, width));
  std::vector<float> wide;
  for (int64_t i = 0; i < rows; i += step) {
    const int64_t count = std::min(step, rows - i);
    wide.resize(static_cast<size_t>(count * width));
    weights.read_f32(info.name, begin + i, count, wide);
    options.change(info.name, begin + i, wide);
    const size_t element = size_of(options.dtype);
    encode_plain(wide, options.dtype,
                 out.subspan(static_cast<size_t>(i * width) * element, wide.size() * element));
  }
}

void write_weights(const WeightSet& weights, const FolderAside& aside, const ConvertOptions& options) {
  std::vector<OutputTensor> tensors;
  for (const TensorInfo& info : weights.tensors()) {
    if (weights.has_scales() && is_scale(info.name)) continue;  // in the weights that are written
    OutputTensor tensor = from_weights(weights, info, options.dtype);
    tensor.fill = [fill = std::move(tensor.fill), &options, &weights, &info](int64_t begin, int64_t rows,
                                                                             std::span<std::byte> out) {
      throw_if_interrupted();
      try {
        if (options.change)
          fill_changed(weights, info, options, begin, rows, out);
        else
          fill(begin, rows, out);
      } catch (const Error&) {
        rethrow_with(info.name);
      }
      if (options.progress) options.progress(out.size());
    };
    tensors.push_back(std::move(tensor));
  }
  write_model_folder(aside.path(), std::move(tensors), options.max_shard_bytes, aside.metadata());
}

struct Model {
  std::string config, tokenizer;
};
Model model_of(const std::string& path) {
  if (!is_checkpoint(path)) return {read_text(path + "/config.json"), path};
  const Checkpoint checkpoint(path);
  const auto& extra = checkpoint.state().extra;
  const auto config = extra.find("config.json");
  if (config == extra.end())
    fail(ErrorKind::kNotFound, "{}: the checkpoint carries no config.json: its model cannot be exported",
         checkpoint.folder());
  return {config->second, tokenizer_of(checkpoint)};
}

void require_other_folder(const std::string& model, const std::string& folder) {
  std::error_code error;
  if (std::filesystem::equivalent(model, folder, error))
    fail(ErrorKind::kInvalidArgument,
         "{} is the model itself, and would be replaced: write to another folder, or add --overwrite",
         folder);
}

std::string with_dtype(const std::string& where, const std::string& config, DType dtype) {
  auto json = nlohmann::ordered_json::parse(config, nullptr, false);
  if (!json.is_object()) fail(ErrorKind::kCorrupt, "{}: config.json is not a JSON object", where);
  for (const char* key : {"dtype", "quantization_config"}) json.erase(key);
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
  FolderAside aside(folder, {"config.json", config, source_mark(file, options.adapter)}, options.replace);
  if (gguf.strings("tokenizer.ggml.tokens"))
    aside.add({{"generation_config.json", gguf_generation_config_json(gguf)},
               {"tokenizer_config.json", gguf_tokenizer_config_json(gguf)}});
  aside.add(options.more_files);
  aside.check();
  write_weights(*weights, aside, options);
  aside.commit();
}

std::vector<std::string> export_weights(const std::string& path, const std::string& folder,
                                        const ConvertOptions& options) {
  if (options.replace == Replace::kOwn && !is_checkpoint(path)) require_other_folder(path, folder);
  const Model model = model_of(path);
  const std::string config = with_dtype(path, model.config, options.dtype);
  const auto weights = open_weights(path);
  FolderAside aside(folder, {"config.json", config, source_mark(path, options.adapter)}, options.replace);
  const auto copied =
      copy_tokenizer(options.tokenizer.empty() ? model.tokenizer : options.tokenizer, aside.path());
  if (copied.empty() && !options.tokenizer.empty())
    fail(ErrorKind::kNotFound, "there is no tokenizer at {}", options.tokenizer);
  aside.add(options.more_files);
  aside.check();
  write_weights(*weights, aside, options);
  aside.commit();
  return copied;
}

}  // namespace flagscale::io
