#pragma once
// One checkpoint's manifest and mapped files. Errors name the file and the tensor.

#include <map>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/manifest.h"
#include "io/mmap_file.h"

namespace flagscale::io {

class CheckpointFiles {
 public:
  // Checks the manifest in full, and that every file is there and has its size.
  explicit CheckpointFiles(std::string folder);

  const std::string& folder() const { return folder_; }
  const Manifest& manifest() const { return manifest_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // as in the manifest
  const ManifestTensor* find(std::string_view name) const;

  // A shard's bytes; its checksum is verified the first time.
  std::span<const std::byte> bytes(const ManifestTensor& tensor, const ManifestShard& shard);
  void verify();  // of every shard

 private:
  void add(const ManifestTensor& tensor);
  std::string folder_;
  Manifest manifest_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, MmapFile> files_;
  std::mutex mutex_;
  std::set<const ManifestShard*> verified_;
};

bool is_whole(const std::string& folder);  // it opens and verifies

}  // namespace flagscale::io
