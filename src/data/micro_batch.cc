// Samples to packed batches: tokens, labels, loss mask, positions, boundaries (Megatron's
// _get_ltor_masks_and_position_ids).
#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "data/train_data.h"

namespace flagscale::data {
namespace {

void check_shapes(const MicroBatch& batch, size_t length) {
  const size_t count = batch.tokens.size();
  FLAGSCALE_CHECK(length > 0 && count % length == 0);
  FLAGSCALE_CHECK(batch.labels.size() == count && batch.loss_mask.size() == count &&
                  batch.position_ids.size() == count);
}

// tokens and labels hold the sample's ids; padding still stands in them. own_mask: of the sample's s + 1
// tokens, or empty; it says instead of eod_mask_loss which labels count.
void fill_masks(const MaskOptions& options, std::span<const int32_t> tokens, std::span<const int32_t> labels,
                std::span<const int32_t> own_mask, std::span<float> loss_mask,
                std::span<int32_t> position_ids, TokenCounts& counts) {
  int32_t position = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool eod = tokens[i] == options.eod_token && tokens[i] != kPadToken;
    const bool padding = labels[i] == kPadToken || labels[i] == options.pad_token;
    const bool left_out = own_mask.empty() ? options.eod_mask_loss && eod : own_mask[i + 1] != 1;
    loss_mask[i] = padding || left_out ? 0.0f : 1.0f;
    ++(padding ? counts.padding : left_out ? counts.masked : counts.learnt);
    position_ids[i] = position;
    position = options.reset_position_ids && eod ? 0 : position + 1;
  }
}

// What begins inside a sample: positions from 0, no label across.
void apply_starts(std::span<const int32_t> starts, std::span<float> loss_mask,
                  std::span<int32_t> position_ids, TokenCounts& counts) {
  for (const int32_t start : starts) {
    const auto first = static_cast<size_t>(start);
    if (std::exchange(loss_mask[first - 1], 0.f) != 0) --counts.learnt, ++counts.masked;
    for (size_t i = first; i < position_ids.size(); ++i) position_ids[i] = static_cast<int32_t>(i - first);
  }
}

// The embedding can look 0 up; the loss mask already leaves these out.
void replace_padding(std::span<int32_t> ids, int32_t pad_token) {
  for (int32_t& id : ids)
    if (id == kPadToken || id == pad_token) id = 0;
}

// Collects boundaries; complains when the caller's memory is too small for them.
class Boundaries {
 public:
  explicit Boundaries(std::span<int32_t> out) : out_(out) { push(0); }
  void push(size_t boundary) {
    const auto value = static_cast<int32_t>(boundary);
    if (count_ > 0 && out_[count_ - 1] == value) return;
    if (count_ == out_.size())
      fail(ErrorKind::kInvalidArgument,
           "the micro-batch has more than {} documents, which is what cu_seqlens was planned for",
           out_.size() - 1);
    out_[count_++] = value;
  }
  int64_t finish() {
    std::fill(out_.begin() + static_cast<std::ptrdiff_t>(count_), out_.end(), out_[count_ - 1]);
    return static_cast<int64_t>(count_);
  }

 private:
  std::span<int32_t> out_;
  size_t count_ = 0;
};

}  // namespace

int64_t max_cu_seqlens(int64_t sequences, int64_t sequence_length, const MaskOptions& options) {
  return sequences * (options.reset_attention_mask || options.packed ? sequence_length : 1) + 1;
}

int64_t fill_micro_batch(const SampleSource& source, int64_t first, const MaskOptions& options,
                         const MicroBatch& batch, TokenCounts* counts) {
  const auto length = static_cast<size_t>(source.sequence_length());
  check_shapes(batch, length);
  FLAGSCALE_CHECK(!batch.cu_seqlens.empty());
  Boundaries boundaries(batch.cu_seqlens);
  thread_local std::vector<int32_t> sample, mask, starts;  // kept, so that a training step allocates nothing
  sample.resize(length + 1), mask.resize(length + 1), starts.reserve(length);
  TokenCounts here;
  for (size_t at = 0; at < batch.tokens.size(); at += length) {
    const int64_t index = first + static_cast<int64_t>(at / length);
    source.sample(index, sample);
    const std::span<const int32_t> own_mask(mask.data(), source.loss_mask(index, mask) ? mask.size() : 0);
    const auto tokens = batch.tokens.subspan(at, length), labels = batch.labels.subspan(at, length);
    std::copy_n(sample.begin(), length, tokens.begin());
    std::copy_n(sample.begin() + 1, length, labels.begin());
    const auto loss_mask = batch.loss_mask.subspan(at, length);
    const auto position_ids = batch.position_ids.subspan(at, length);
    fill_masks(options, tokens, labels, own_mask, loss_mask, position_ids, here);
    source.starts(index, starts);
    apply_starts(starts, loss_mask, position_ids, here);
    for (const int32_t start : starts) boundaries.push(at + static_cast<size_t>(start));
    if (options.reset_attention_mask)
      for (size_t i = 0; i + 1 < length; ++i)
        if (tokens[i] == options.eod_token && tokens[i] != kPadToken) boundaries.push(at + i + 1);
    boundaries.push(at + length);
    replace_padding(tokens, options.pad_token);
    replace_padding(labels, options.pad_token);
  }
  if (counts)
    *counts = {counts->learnt + here.learnt, counts->masked + here.masked, counts->padding + here.padding};
  return boundaries.finish();
}

bool learns_anything(const SampleSource& source, const MaskOptions& options) {
  const auto length = static_cast<size_t>(source.sequence_length());
  std::vector<int32_t> tokens(length), labels(length), positions(length);
  std::vector<int32_t> boundaries(static_cast<size_t>(max_cu_seqlens(1, source.sequence_length(), options)));
  std::vector<float> mask(length);
  TokenCounts counts;
  for (int64_t i = 0; i < source.size() && counts.learnt == 0; ++i) {
    throw_if_interrupted();
    fill_micro_batch(source, i, options, {tokens, labels, mask, positions, boundaries}, &counts);
  }
  return counts.learnt > 0;
}

}  // namespace flagscale::data
