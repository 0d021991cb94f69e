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

namespace fs = std::filesystem;

namespace {
void make_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
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

struct Model {
  std::string config, tokenizer;
};
Model model_of(const std::string& path) {
  if (!is_checkpoint(path)) return {read_file(path + "/config.json"), path};
  const Checkpoint checkpoint(path);
  const auto& extra = checkpoint.state().extra;
  const auto config = extra.find("config.json"), tokenizer = extra.find("tokenizer");
  if (config == extra.end())
    fail(ErrorKind::kNotFound, "{}: the checkpoint carries no config.json: its model cannot be exported",
         checkpoint.folder());
  return {config->second, tokenizer == extra.end() ? "" : tokenizer->second};
}

// Copies what of a tokenizer lies at `from` (a folder, or one of its files).
std::vector<std::string> copy_tokenizer(const std::string& from, const std::string& folder) {
  constexpr const char* kFiles[] = {"tokenizer.json",
                                    "tokenizer_config.json",
                                    "special_tokens_map.json",
                                    "vocab.json",
                                    "merges.txt",
                                    "special_tokens.txt",
                                    "tokenizer.model",
                                    "chat_template.jinja",
                                    "generation_config.json"};
  std::error_code error;
  if (from.empty()) return {};
  const std::string source = fs::is_directory(from, error) ? from : fs::path(from).parent_path().string();
  std::vector<std::string> copied;
  for (const char* name : kFiles) {
    const fs::path file = fs::path(source) / name;
    if (!fs::is_regular_file(file, error)) continue;
    if (!fs::equivalent(source, folder, error)) write_file(folder + "/" + name, read_file(file.string()));
    copied.emplace_back(name);
  }
  return copied;
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
  if (gguf.strings("tokenizer.ggml.tokens")) {
    write_file(folder + "/generation_config.json", gguf_generation_config_json(gguf));
    write_file(folder + "/tokenizer_config.json", gguf_tokenizer_config_json(gguf));
  }
  write_file(folder + "/config.json", config);
}

std::vector<std::string> export_weights(const std::string& path, const std::string& folder,
                                        const ConvertOptions& options) {
  const Model model = model_of(path);
  const std::string config = with_dtype(path, model.config, options.dtype);
  const auto weights = open_weights(path);
  make_folder(folder);
  write_weights(*weights, folder, options);
  const auto copied = copy_tokenizer(options.tokenizer.empty() ? model.tokenizer : options.tokenizer, folder);
  write_file(folder + "/config.json", config);
  return copied;
}

}  // namespace flagscale::io
