#include "io/checkpoint_files.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/interrupt.h"
#include "io/atomic_file.h"
#include "io/xxh64.h"

namespace flagscale::io {

namespace fs = std::filesystem;

CheckpointFiles::CheckpointFiles(std::string folder) : folder_(std::move(folder)) {
  const std::string path = folder_ + "/manifest.json";
  if (!fs::is_directory(folder_)) fail(ErrorKind::kNotFound, "{}: no such folder", folder_);
  if (!fs::exists(path))
    fail(ErrorKind::kCorrupt,
         "{}: manifest.json is missing: not a checkpoint of flagscale, or not a whole one", folder_);
  manifest_ = parse_manifest(path, read_file(path));
  for (const auto& [name, bytes] : manifest_.files) {
    const auto [it, fresh] = files_.emplace(name, MmapFile(folder_ + "/" + name));
    if (it->second.bytes().size() != bytes)
      fail(ErrorKind::kCorrupt, "{}: {} bytes, the manifest says {} (cut off?)", it->second.path(),
           it->second.bytes().size(), bytes);
  }
  for (const ManifestTensor& tensor : manifest_.tensors) add(tensor);
}

std::span<const std::byte> CheckpointFiles::bytes(const ManifestTensor& tensor, const ManifestShard& shard) {
  const MmapFile& file = files_.at(shard.file);
  const auto result = file.bytes().subspan(shard.offset, shard.bytes);
  {
    const std::lock_guard lock(mutex_);
    if (verified_.contains(&shard)) return result;
  }
  if (xxh64(result) != shard.checksum)
    fail(ErrorKind::kCorrupt, "{}: tensor '{}' is damaged (checksum mismatch)", file.path(), tensor.name);
  const std::lock_guard lock(mutex_);
  verified_.insert(&shard);
  return result;
}

void CheckpointFiles::verify() {
  for (const ManifestTensor& tensor : manifest_.tensors)
    for (const ManifestShard& shard : tensor.shards) {
      throw_if_interrupted();
      bytes(tensor, shard);
    }
}

const ManifestTensor* CheckpointFiles::find(std::string_view name) const {
  const auto it = std::lower_bound(
      manifest_.tensors.begin(), manifest_.tensors.end(), name,
      [](const ManifestTensor& tensor, std::string_view wanted) { return tensor.name < wanted; });
  return it == manifest_.tensors.end() || it->name != name ? nullptr : &*it;
}

void CheckpointFiles::add(const ManifestTensor& tensor) {
  TensorInfo info;
  info.name = tensor.name;
  info.dtype = tensor.dtype;
  info.shape = tensor.shape;
  info.file = tensor.shards.empty() ? folder_ : folder_ + "/" + tensor.shards[0].file;
  info.bytes = static_cast<uint64_t>(info.numel()) * size_of(info.dtype);
  tensors_.push_back(std::move(info));
}

bool is_whole(const std::string& folder) {
  try {
    CheckpointFiles(folder).verify();
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace flagscale::io
