#pragma once
// The manifest of a checkpoint, in memory and as JSON. The JSON's "checksum" is the XXH64 of its text with
// that checksum's digits set to 0.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace flagscale::io {

struct ManifestShard {
  std::vector<int64_t> start, size;  // the slice of the logical tensor
  std::string file;
  uint64_t offset = 0, bytes = 0, checksum = 0;  // in the file
};

struct ManifestTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<ManifestShard> shards;  // they tile the tensor
};

struct Manifest {
  int version = kCheckpointVersion;
  TrainingState state;
  std::map<std::string, uint64_t> files;  // name to bytes
  std::vector<ManifestTensor> tensors;    // sorted by name
};

std::string to_json(const Manifest& manifest);

// `where` names the file in errors. Every number is checked: shapes, slices that tile their tensor, offsets
// inside files, plain file names. kUnsupported for a newer version, kCorrupt for the rest.
Manifest parse_manifest(const std::string& where, const std::string& text);

}  // namespace flagscale::io
