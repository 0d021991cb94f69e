#include "data/gpt_dataset.h"

#include <algorithm>

#include "base/check.h"
#include "base/error.h"

namespace flagscale::data {
namespace {

void check_index(int64_t index, int64_t size) {
  if (index < 0 || index >= size)
    fail(ErrorKind::kInvalidArgument, "sample {} of a dataset of {}", index, size);
}

}  // namespace

GptDataset::GptDataset(IndexedData data, SampleIndex index, int64_t sequence_length)
    : data_(std::move(data)), index_(std::move(index)), sequence_length_(sequence_length) {}

void GptDataset::sample(int64_t index, std::span<int32_t> tokens) const {
  read(*data_.tokens, index, tokens);
}

bool GptDataset::loss_mask(int64_t index, std::span<int32_t> mask) const {
  if (data_.loss_mask) read(*data_.loss_mask, index, mask);
  return data_.loss_mask != nullptr;
}

void GptDataset::read(const IndexedReader& reader, int64_t index, std::span<int32_t> out) const {
  check_index(index, size());
  FLAGSCALE_CHECK(static_cast<int64_t>(out.size()) == sequence_length_ + 1);
  const size_t at = index_.shuffle[static_cast<size_t>(index)];
  const SampleStart begin = index_.starts[at], end = index_.starts[at + 1];
  size_t filled = 0;
  for (int32_t d = begin.document; d <= end.document; ++d) {
    const int64_t sequence = index_.documents[static_cast<size_t>(d)];
    const int64_t length = reader.index().length(sequence);
    const int64_t from = d == begin.document ? std::max(begin.offset, 0) : 0;
    // The end of a sample is its last token, which is also the first of the next.
    const int64_t to = d == end.document ? std::min<int64_t>(end.offset + 1, length) : length;
    const auto room = static_cast<int64_t>(out.size() - filled);
    const auto count = static_cast<size_t>(std::clamp<int64_t>(to - from, 0, room));
    if (count > 0) reader.read(sequence, from, out.subspan(filled, count));
    filled += count;
  }
  std::fill(out.begin() + static_cast<std::ptrdiff_t>(filled), out.end(), kPadToken);
}

BlendedDataset::BlendedDataset(std::vector<std::unique_ptr<SampleSource>> datasets, BlendIndex index)
    : datasets_(std::move(datasets)), index_(std::move(index)) {
  std::vector<int64_t> used(datasets_.size(), 0);
  for (const int16_t d : index_.dataset) ++used[static_cast<size_t>(d)];
  for (size_t d = 0; d < used.size(); ++d)
    if (used[d] > datasets_[d]->size())
      fail(ErrorKind::kInvalidArgument,
           "the blend asks dataset {} for {} samples, it has {}: raise mid_level_dataset_surplus", d, used[d],
           datasets_[d]->size());
}

void BlendedDataset::sample(int64_t index, std::span<int32_t> tokens) const {
  check_index(index, size());
  const auto i = static_cast<size_t>(index);
  datasets_[static_cast<size_t>(index_.dataset[i])]->sample(index_.sample[i], tokens);
}

bool BlendedDataset::loss_mask(int64_t index, std::span<int32_t> mask) const {
  check_index(index, size());
  const auto i = static_cast<size_t>(index);
  return datasets_[static_cast<size_t>(index_.dataset[i])]->loss_mask(index_.sample[i], mask);
}

void BlendedDataset::starts(int64_t index, std::vector<int32_t>& starts) const {
  check_index(index, size());
  const auto i = static_cast<size_t>(index);
  datasets_[static_cast<size_t>(index_.dataset[i])]->starts(index_.sample[i], starts);
}

}  // namespace flagscale::data
