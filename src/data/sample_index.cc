#include "data/sample_index.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "data/numpy_shuffle.h"

namespace flagscale::data {
namespace {

constexpr int64_t kMax32 = std::numeric_limits<int32_t>::max();

// Appends `epochs` copies of first .. end - 1 and shuffles what was appended.
void append_documents(std::vector<int32_t>& documents, int64_t first, int64_t end, int64_t epochs,
                      NumpyRandom& random) {
  const size_t begin = documents.size();
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    throw_if_interrupted();
    for (int64_t s = first; s < end; ++s) documents.push_back(static_cast<int32_t>(s));
  }
  random.shuffle(std::span(documents).subspan(begin));
}

// 0 .. total - 1, the first `head` shuffled among themselves and the rest among themselves.
std::vector<uint32_t> build_shuffle(int64_t head, int64_t total, NumpyRandom& random) {
  std::vector<uint32_t> shuffle(static_cast<size_t>(total));
  std::iota(shuffle.begin(), shuffle.end(), 0u);
  random.shuffle(std::span(shuffle).first(static_cast<size_t>(head)));
  if (head < total) random.shuffle(std::span(shuffle).subspan(static_cast<size_t>(head)));
  return shuffle;
}

// A last epoch of which less than 80 % is used is kept out of the global shuffle. Returns the samples before
// it, or none.
std::optional<int64_t> samples_before_last_epoch(int64_t epochs, int64_t tokens, int64_t length,
                                                 int64_t samples) {
  if (epochs == 1) return std::nullopt;
  const int64_t before = ((epochs - 1) * tokens - 1) / length;
  const int64_t per_epoch = (tokens - 1) / length;
  if (samples - before < static_cast<int64_t>(0.80 * static_cast<double>(per_epoch))) return before;
  return std::nullopt;
}

int64_t count_samples(int64_t tokens, int64_t length, bool drop_last_partial) {
  if (drop_last_partial) return (tokens - 1) / length;
  // Megatron divides in single precision here, and so do we, to count what it counts.
  return static_cast<int64_t>(std::ceil(static_cast<float>(tokens - 1) / static_cast<float>(length)));
}

}  // namespace

int64_t epochs_for(int64_t tokens_per_epoch, int64_t sequence_length, std::optional<int64_t> samples) {
  FLAGSCALE_CHECK(tokens_per_epoch > 0);
  if (!samples) return 1;
  if (*samples > (std::numeric_limits<int64_t>::max() - tokens_per_epoch) / sequence_length - 1)
    fail(ErrorKind::kInvalidArgument, "{} samples of {} tokens are too many to count", *samples,
         sequence_length);
  const int64_t wanted = *samples * sequence_length + 1;
  return std::max<int64_t>(1, (wanted + tokens_per_epoch - 1) / tokens_per_epoch);
}

std::vector<SampleStart> build_sample_starts(const std::vector<int32_t>& lengths, int64_t first_sequence,
                                             const std::vector<int32_t>& documents, int64_t sequence_length,
                                             int64_t epochs, int64_t tokens_per_epoch,
                                             bool drop_last_partial) {
  const int64_t samples = count_samples(epochs * tokens_per_epoch, sequence_length, drop_last_partial);
  std::vector<SampleStart> starts;
  starts.reserve(static_cast<size_t>(samples + 1));
  starts.push_back({0, 0});
  const auto length_at = [&](size_t position) {
    return int64_t{lengths[static_cast<size_t>(documents[position] - first_sequence)]};
  };
  size_t position = 0;
  int64_t offset = 0;
  for (int64_t i = 0; i < samples; ++i) {
    throw_if_interrupted();
    for (int64_t missing = sequence_length + 1; missing > 0;) {
      const int64_t left = length_at(position) - offset;
      missing -= left;
      if (missing <= 0) {
        offset += missing + left - 1;  // the next sample starts with this one's last token
      } else if (position + 1 == documents.size()) {
        offset = length_at(position) - 1;  // the end of the data: the last, partial sample
        break;
      } else {
        ++position;
        offset = 0;
      }
    }
    starts.push_back({static_cast<int32_t>(position), static_cast<int32_t>(offset)});
  }
  return starts;
}

SampleIndex build_sample_index(const SampleIndexOptions& options,
                               const std::function<int32_t(int64_t)>& length) {
  const int64_t first = options.first_sequence, end = options.end_sequence, L = options.sequence_length;
  if (L < 1) fail(ErrorKind::kInvalidArgument, "sequence length {} must be at least 1", L);
  if (end > kMax32) fail(ErrorKind::kUnsupported, "more than {} sequences in one dataset", kMax32);
  std::vector<int32_t> lengths(static_cast<size_t>(end - first));
  for (int64_t s = first; s < end; ++s) lengths[static_cast<size_t>(s - first)] = length(s);
  const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  if (tokens < 2)
    fail(ErrorKind::kInvalidArgument, "{} sequences hold {} tokens: too few for a sample", end - first,
         tokens);

  SampleIndex result;
  result.epochs = epochs_for(tokens, L, options.samples);
  if (result.epochs > kMax32 / (end - first) ||
      result.epochs > std::numeric_limits<int64_t>::max() / tokens / 2 ||
      count_samples(result.epochs * tokens, L, options.drop_last_partial) >= kMax32)
    fail(ErrorKind::kInvalidArgument,
         "{} samples of {} tokens need {} epochs of {} sequences: more than 32-bit indices hold; ask for "
         "fewer "
         "iterations or bring more data",
         options.samples.value_or(0), L, result.epochs, end - first);

  const auto samples =
      static_cast<uint64_t>(count_samples(result.epochs * tokens, L, options.drop_last_partial));
  const uint64_t bytes = static_cast<uint64_t>(result.epochs * (end - first)) * sizeof(int32_t) +
                         samples * (sizeof(SampleStart) + sizeof(uint32_t));
  if (bytes > options.memory)
    fail(ErrorKind::kResource,
         "the order of {} samples ({} epochs of {} sequences) takes {:.1f} GiB of memory, {:.1f} GiB are "
         "free: ask "
         "for fewer iterations (train_iters, train_samples)",
         samples, result.epochs, end - first, static_cast<double>(bytes) / (1 << 30),
         static_cast<double>(options.memory) / (1 << 30));

  const auto before_last = samples_before_last_epoch(result.epochs, tokens, L, options.samples.value_or(0));
  NumpyRandom random(options.seed);
  result.documents.reserve(static_cast<size_t>(result.epochs * (end - first)));
  append_documents(result.documents, first, end, before_last ? result.epochs - 1 : result.epochs, random);
  if (before_last) append_documents(result.documents, first, end, 1, random);
  result.starts = build_sample_starts(lengths, first, result.documents, L, result.epochs, tokens,
                                      options.drop_last_partial);
  const auto total = static_cast<int64_t>(result.starts.size()) - 1;
  result.shuffle = build_shuffle(before_last.value_or(total), total, random);
  return result;
}

}  // namespace flagscale::data
