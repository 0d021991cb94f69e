#pragma once
// What a weight file or checkpoint holds, for people and for scripts: `flagscale checkpoint inspect`.

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "io/weights.h"

namespace flagscale::io {

using Fact = std::variant<int64_t, double, bool, std::string>;

struct Inspection {
  std::string path, format;                         // "safetensors", "GGUF version 3", "checkpoint version 1"
  std::vector<std::pair<std::string, Fact>> facts;  // iteration, architecture, ...
  std::vector<TensorInfo> tensors;                  // as stored: every role, GGUF's own names
  uint64_t bytes() const;
  int64_t parameters() const;  // elements of all tensors but a checkpoint's optimizer state
};

Inspection inspect(const std::string& path);
std::string to_text(const Inspection& inspection);
std::string to_json(const Inspection& inspection);

// Reads everything once. A checkpoint: every checksum. Other formats have none: every tensor is decoded, and
// those with NaN or infinity are named. Throws kCorrupt; returns the number of tensors.
size_t verify(const std::string& path);

}  // namespace flagscale::io
