#pragma once
// Which tokens make up sample i: Megatron's document, sample and shuffle indices.
//
// The sequences of a split, repeated for as many epochs as the samples asked for need, are shuffled and laid
// end to end; samples of L + 1 tokens are cut from that line, each starting at the last token of the one
// before; the samples are shuffled again. Formulas: megatron-core's gpt_dataset.py and helpers.cpp.

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

namespace flagscale::data {

struct SampleStart {
  int32_t document;  // position in the document index
  int32_t offset;    // token of that sequence
  friend bool operator==(const SampleStart&, const SampleStart&) = default;
};

struct SampleIndexOptions {
  int64_t first_sequence = 0, end_sequence = 0;  // the split's range of sequences
  int64_t sequence_length = 0;                   // L, at least 1
  std::optional<int64_t> samples;                // none: one epoch
  uint32_t seed = 1234;
  bool drop_last_partial = true;  // false keeps a last sample that is shorter than L + 1
  uint64_t memory = std::numeric_limits<uint64_t>::max();  // bytes that the arrays may take
};

struct SampleIndex {
  std::vector<int32_t> documents;   // sequence ids, one a document position; epochs * sequences of them
  std::vector<SampleStart> starts;  // one more than samples: where each begins and ends
  std::vector<uint32_t> shuffle;    // sample i of the run is starts[shuffle[i]] .. starts[shuffle[i] + 1]
  int64_t epochs = 1;
  int64_t size() const { return static_cast<int64_t>(shuffle.size()); }
};

// length(s) is the number of tokens of sequence s. Throws kInvalidArgument when the split holds too few
// tokens to make a sample, or so many epochs are needed that document positions or samples pass 32 bits;
// kResource when the arrays would pass options.memory; kInterrupted after Ctrl-C.
SampleIndex build_sample_index(const SampleIndexOptions& options,
                               const std::function<int32_t(int64_t)>& length);

// The pieces, for comparison with Megatron's own.
int64_t epochs_for(int64_t tokens_per_epoch, int64_t sequence_length, std::optional<int64_t> samples);
std::vector<SampleStart> build_sample_starts(const std::vector<int32_t>& lengths, int64_t first_sequence,
                                             const std::vector<int32_t>& documents, int64_t sequence_length,
                                             int64_t epochs, int64_t tokens_per_epoch,
                                             bool drop_last_partial);

}  // namespace flagscale::data
