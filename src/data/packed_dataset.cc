#include "data/packed_dataset.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "data/numpy_shuffle.h"

namespace flagscale::data {
namespace {

constexpr size_t kOpen = 64;  // samples that still take sequences

struct Open {
  std::vector<int32_t> sequences;
  int64_t used = 0;
};

class Packer {
 public:
  Packer(int64_t room, bool pack) : room_(room), pack_(pack) {}

  void add(int32_t sequence, int64_t length) {
    auto best = open_.end();
    for (auto it = open_.begin(); pack_ && it != open_.end(); ++it)
      if (it->used + length <= room_ && (best == open_.end() || it->used > best->used)) best = it;
    if (best == open_.end()) {
      if (open_.size() == kOpen) close(fullest());
      best = open_.insert(open_.end(), Open{});
    }
    best->sequences.push_back(sequence);
    best->used += length;
  }

  // Ends an epoch: its samples, in an order of their own.
  void finish(NumpyRandom& random, PackIndex& index) {
    while (!open_.empty()) close(open_.begin());
    random.shuffle(std::span(closed_));
    for (const auto& sequences : closed_) {
      index.sequences.insert(index.sequences.end(), sequences.begin(), sequences.end());
      index.starts.push_back(static_cast<int64_t>(index.sequences.size()));
    }
    closed_.clear();
  }

 private:
  std::vector<Open>::iterator fullest() {
    return std::max_element(open_.begin(), open_.end(),
                            [](const Open& a, const Open& b) { return a.used < b.used; });
  }
  void close(std::vector<Open>::iterator it) {
    closed_.push_back(std::move(it->sequences));
    open_.erase(it);
  }

  int64_t room_;
  bool pack_;
  std::vector<Open> open_;
  std::vector<std::vector<int32_t>> closed_;
};

}  // namespace

PackIndex build_packs(const PackOptions& o, const std::function<int32_t(int64_t)>& length) {
  std::vector<int32_t> order;
  for (int64_t s = o.first_sequence; s < o.end_sequence; ++s)
    if (length(s) > 1) order.push_back(static_cast<int32_t>(s));
  if (order.empty()) fail(ErrorKind::kInvalidArgument, "no sequence has a token to predict");
  const int64_t room = o.sequence_length + 1;
  NumpyRandom random(o.seed);
  PackIndex index;
  do {
    random.shuffle(std::span(order));
    Packer packer(room, o.pack);
    for (const int32_t s : order) {
      throw_if_interrupted();
      packer.add(s, std::min<int64_t>(length(s), room));
    }
    packer.finish(random, index);
    if (index.sequences.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max()))
      fail(ErrorKind::kInvalidArgument, "{} samples of conversations are too many", *o.samples);
  } while (o.samples && index.size() < *o.samples);
  return index;
}

PackedDataset::PackedDataset(IndexedData data, PackIndex index, int64_t sequence_length)
    : data_(std::move(data)), index_(std::move(index)), sequence_length_(sequence_length) {}

void PackedDataset::sample(int64_t index, std::span<int32_t> tokens) const {
  read(*data_.tokens, index, kPadToken, tokens);
}

bool PackedDataset::loss_mask(int64_t index, std::span<int32_t> mask) const {
  if (data_.loss_mask) read(*data_.loss_mask, index, 0, mask);
  return data_.loss_mask != nullptr;
}

void PackedDataset::starts(int64_t index, std::vector<int32_t>& starts) const {
  starts.clear();
  const auto at = static_cast<size_t>(index);
  int64_t filled = 0;
  for (int64_t i = index_.starts[at]; i < index_.starts[at + 1]; ++i) {
    filled += data_.tokens->index().length(index_.sequences[static_cast<size_t>(i)]);
    if (filled <= sequence_length_) starts.push_back(static_cast<int32_t>(filled));  // or of the padding
  }
}

void PackedDataset::read(const IndexedReader& reader, int64_t index, int32_t filling,
                         std::span<int32_t> out) const {
  if (index < 0 || index >= size())
    fail(ErrorKind::kInvalidArgument, "sample {} of a dataset of {}", index, size());
  FLAGSCALE_CHECK(static_cast<int64_t>(out.size()) == sequence_length_ + 1);
  const auto at = static_cast<size_t>(index);
  size_t filled = 0;
  for (int64_t i = index_.starts[at]; i < index_.starts[at + 1]; ++i) {
    const int64_t sequence = index_.sequences[static_cast<size_t>(i)];
    const size_t count = std::min(static_cast<size_t>(reader.index().length(sequence)), out.size() - filled);
    reader.read(sequence, 0, out.subspan(filled, count));
    filled += count;
  }
  std::fill(out.begin() + static_cast<std::ptrdiff_t>(filled), out.end(), filling);
}

}  // namespace flagscale::data
