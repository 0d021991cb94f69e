#include "io/checkpoint_weights.h"

#include <mutex>

#include "io/checkpoint.h"

namespace flagscale::io {

namespace {
class CheckpointWeights : public WeightSet {
 public:
  explicit CheckpointWeights(const std::string& path) : checkpoint_(path) {
    for (const TensorInfo& info : checkpoint_.tensors())
      if (info.name.find(':') == info.name.npos) add(info);
    joined_.resize(tensors().size());
  }

 protected:
  // A tensor that one shard holds is used where it is mapped; a cut one is put together once and kept.
  std::span<const std::byte> stored(size_t index) const override {
    const TensorInfo& info = tensors()[index];
    const auto mapped = checkpoint_.mapped(info.name);
    if (mapped.size() == info.bytes) return mapped;
    const std::lock_guard lock(mutex_);
    if (joined_[index].empty()) {
      joined_[index].resize(info.bytes);
      checkpoint_.read(info.name, joined_[index]);
    }
    return joined_[index];
  }

 private:
  Checkpoint checkpoint_;
  mutable std::mutex mutex_;
  mutable std::vector<std::vector<std::byte>> joined_;
};
}  // namespace

std::unique_ptr<WeightSet> open_checkpoint_weights(const std::string& path) {
  return std::make_unique<CheckpointWeights>(path);
}

}  // namespace flagscale::io
