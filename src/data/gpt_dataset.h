#pragma once
// Sample sources: one dataset cut into samples, and several of them blended.

#include <memory>
#include <vector>

#include "data/blend.h"
#include "data/indexed_reader.h"
#include "data/sample_index.h"
#include "data/train_data.h"

namespace flagscale::data {

using Reader = std::shared_ptr<const IndexedReader>;

// A .bin/.idx pair and the pair of its loss mask, with the same sequences; null where there is none.
struct IndexedData {
  Reader tokens, loss_mask;
};

// Megatron's GPTDataset: the samples of one split of one .bin/.idx pair.
class GptDataset final : public SampleSource {
 public:
  GptDataset(IndexedData data, SampleIndex index, int64_t sequence_length);
  int64_t size() const override { return index_.size(); }
  int64_t sequence_length() const override { return sequence_length_; }
  void sample(int64_t index, std::span<int32_t> tokens) const override;
  bool loss_mask(int64_t index, std::span<int32_t> mask) const override;
  const SampleIndex& index() const { return index_; }

 private:
  void read(const IndexedReader& reader, int64_t index, std::span<int32_t> out) const;
  IndexedData data_;
  SampleIndex index_;
  int64_t sequence_length_;
};

// Megatron's BlendedDataset. Throws kInvalidArgument when a dataset would have to give more than it has.
class BlendedDataset final : public SampleSource {
 public:
  BlendedDataset(std::vector<std::unique_ptr<SampleSource>> datasets, BlendIndex index);
  int64_t size() const override { return static_cast<int64_t>(index_.dataset.size()); }
  int64_t sequence_length() const override { return datasets_.front()->sequence_length(); }
  void sample(int64_t index, std::span<int32_t> tokens) const override;
  bool loss_mask(int64_t index, std::span<int32_t> mask) const override;
  void starts(int64_t index, std::vector<int32_t>& starts) const override;
  const BlendIndex& index() const { return index_; }

 private:
  std::vector<std::unique_ptr<SampleSource>> datasets_;
  BlendIndex index_;
};

}  // namespace flagscale::data
