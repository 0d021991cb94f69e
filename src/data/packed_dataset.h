#pragma once
// Conversations as samples: whole ones, packed one after another, each with positions and attention of its
// own. No prediction crosses from one to the next.

#include <functional>
#include <optional>
#include <vector>

#include "data/gpt_dataset.h"

namespace flagscale::data {

struct PackOptions {
  int64_t first_sequence = 0, end_sequence = 0;  // the split's range
  int64_t sequence_length = 0;                   // a sample holds one token more
  std::optional<int64_t> samples;                // none: one epoch
  uint32_t seed = 1234;
  bool pack = true;  // false: one conversation a sample
};

// Which sequences make up sample i: sequences[starts[i]] .. sequences[starts[i + 1] - 1].
struct PackIndex {
  std::vector<int32_t> sequences;
  std::vector<int64_t> starts{0};
  int64_t size() const { return static_cast<int64_t>(starts.size()) - 1; }
};

// Every epoch takes each sequence once, in an order of its own: each goes to the fullest of the last few open
// samples that has room for it. Deterministic for the same lengths and options. Throws
// Error{kInvalidArgument} where there is no sequence with a token to predict, or too many samples are asked
// for.
PackIndex build_packs(const PackOptions& options, const std::function<int32_t(int64_t)>& length);

class PackedDataset final : public SampleSource {
 public:
  PackedDataset(IndexedData data, PackIndex index, int64_t sequence_length);
  int64_t size() const override { return index_.size(); }
  int64_t sequence_length() const override { return sequence_length_; }
  void sample(int64_t index, std::span<int32_t> tokens) const override;
  bool loss_mask(int64_t index, std::span<int32_t> mask) const override;
  void starts(int64_t index, std::vector<int32_t>& starts) const override;

 private:
  void read(const IndexedReader& reader, int64_t index, int32_t filling, std::span<int32_t> out) const;
  IndexedData data_;
  PackIndex index_;
  int64_t sequence_length_;
};

}  // namespace flagscale::data
