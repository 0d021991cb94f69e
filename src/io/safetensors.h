#pragma once
// Reading of safetensors: 8 bytes of header length, a JSON header {name: {dtype, shape, data_offsets}}, the
// bytes. Everything in the header is checked against the file when it is opened: sizes, overlaps, holes,
// overflow.

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/mmap_file.h"
#include "io/weights.h"

namespace flagscale::io {

struct SafetensorsEntry {
  TensorInfo info;
  uint64_t begin = 0;  // of its bytes, from the start of the file
};

// One file. The entries are sorted by name.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  std::span<const std::byte> bytes(const SafetensorsEntry& entry) const {
    return file_.bytes().subspan(entry.begin, entry.info.bytes);
  }

 private:
  MmapFile file_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

std::string_view safetensors_name(DType dtype);  // "F32"

// `path`: a file, or a folder with model.safetensors or model.safetensors.index.json and its shards.
std::unique_ptr<WeightSet> open_safetensors(const std::string& path);

}  // namespace flagscale::io
