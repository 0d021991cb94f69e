#pragma once
// A model from one file format to a Hugging Face folder, some rows at a time: memory stays flat whatever its
// size. The folder is written aside and gets its name when it is whole; what an error or Ctrl-C left is
// removed. In a folder that is there already, files of the same names are replaced, all at the end, where
// `replace` (folder_aside.h) lets them be.

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/folder_aside.h"
#include "tensor/dtype.h"

namespace flagscale::io {

struct ConvertOptions {
  DType dtype = DType::kF32;  // of every weight in the folder: float32, bfloat16 or float16
  uint64_t max_shard_bytes = uint64_t{5'000'000'000};
  Replace replace = Replace::kOwn;
  std::string tokenizer;  // export: a folder or file with the tokenizer; "": the checkpoint's own
  std::map<std::string, std::string> more_files;  // name to text: written beside the weights
  std::string adapter;                            // path of what `change` adds or takes out
  std::function<void(uint64_t bytes)> progress;   // called as bytes of `total` are written; may be empty
  // Changes rows of a weight, from `begin` on, as fp32 before they are written; may be empty.
  std::function<void(const std::string& name, int64_t begin, std::span<float> rows)> change;
};

// Bytes of weights that a conversion of `path` to `dtype` writes.
uint64_t converted_bytes(const std::string& path, DType dtype);

// A GGUF file (llama, qwen2 or qwen3) to config.json, generation_config.json, tokenizer_config.json and
// model*.safetensors. tokenizer.json is text's to make, from gguf_tokenizer(), and more_files' to bring.
void import_gguf(const std::string& file, const std::string& folder, const ConvertOptions& options);

// One of our checkpoints, which carries its config.json in TrainingState::extra["config.json"], or a Hugging
// Face folder, to config.json, model*.safetensors and the tokenizer's files. The tokenizer is
// options.tokenizer, else the checkpoint's, else what lies in the folder. Returns the
// tokenizer files written: none when there is no tokenizer to be found.
std::vector<std::string> export_weights(const std::string& path, const std::string& folder,
                                        const ConvertOptions& options);

}  // namespace flagscale::io
