// From prefixes, splits and requests to sample sources: Megatron's BlendedMegatronDatasetBuilder.
#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "data/blend.h"
#include "data/gpt_dataset.h"
#include "data/index_cache.h"
#include "data/packed_dataset.h"
#include "data/train_data.h"

namespace flagscale::data {
namespace {

using Source = std::unique_ptr<SampleSource>;

// All that decides the indices, as text: the name of a cache entry.
std::string describe(const std::string& prefix, const SampleIndexOptions& wanted) {
  const std::filesystem::path file = std::filesystem::absolute(prefix + ".idx");
  std::error_code ignored;
  return fmt::format(
      "file {}\nbytes {}\ntime {}\nsequences {}..{}\nsequence_length {}\nsamples {}\nseed {}\ndrop_last {}\n",
      file.string(), std::filesystem::file_size(file, ignored),
      std::filesystem::last_write_time(file, ignored).time_since_epoch().count(), wanted.first_sequence,
      wanted.end_sequence, wanted.sequence_length, wanted.samples.value_or(-1), wanted.seed,
      wanted.drop_last_partial);
}

// Whether a conversation has tokens that are learnt, all of them after its first `kept` ones.
bool lost_by_cutting(const IndexedReader& mask, int64_t sequence, size_t kept) {
  std::vector<int32_t> learnt(static_cast<size_t>(mask.index().length(sequence)));
  mask.read(sequence, 0, learnt);
  const auto cut = learnt.begin() + static_cast<std::ptrdiff_t>(kept);
  return std::find(learnt.begin() + 1, cut, 1) == cut && std::find(cut, learnt.end(), 1) != learnt.end();
}

// One split of a file of conversations.
Source open_packs(const DatasetOptions& options, const IndexedData& data, Split split, int64_t first,
                  int64_t end, std::optional<int64_t> samples) {
  const IndexedReader& reader = *data.tokens;
  const auto length = [&](int64_t s) { return reader.index().length(s); };
  const int64_t room = options.sequence_length + 1;
  int64_t cut = 0, longest = 0, lost = 0;
  for (int64_t s = first; s < end; ++s) {
    longest = std::max<int64_t>(longest, length(s));
    if (length(s) <= room) continue;
    ++cut;
    if (data.loss_mask) lost += lost_by_cutting(*data.loss_mask, s, static_cast<size_t>(room));
  }
  if (cut > 0)
    warn(
        "{} (split {}): {} of {} conversations are longer than seq_length {} and are cut (the longest has {} "
        "tokens){}",
        reader.prefix(), name(split), cut, end - first, options.sequence_length, longest,
        lost == 0 ? "" : fmt::format("; nothing that is learnt is left of {} of them", lost));
  try {
    return std::make_unique<PackedDataset>(
        data,
        build_packs({first, end, options.sequence_length, samples, options.seed, options.sft_packing},
                    length),
        options.sequence_length);
  } catch (const Error&) {
    rethrow_with(fmt::format("{} (split {}, sequences {}..{})", reader.prefix(), name(split), first, end));
  }
}

// One split of one file; null when the split has no sequence.
Source open_split(const DatasetOptions& options, const IndexedData& data, Split split,
                  std::pair<double, double> share, std::optional<int64_t> samples) {
  const IndexedReader& reader = *data.tokens;
  const auto [first, end] = split_range(share, reader.index().sequences());
  if (first == end) return nullptr;
  if (options.sft) return open_packs(options, data, split, first, end, samples);
  SampleIndexOptions wanted;
  wanted.first_sequence = first;
  wanted.end_sequence = end;
  wanted.sequence_length = options.sequence_length;
  wanted.samples = samples;
  wanted.seed = options.seed;
  wanted.memory = options.memory;
  wanted.drop_last_partial = split != kValid || options.drop_last_partial_validation_sequence;
  try {
    auto index = cached_sample_index(
        options.cache_path, name(split), describe(reader.prefix(), wanted), wanted,
        [&] { return build_sample_index(wanted, [&](int64_t s) { return reader.index().length(s); }); });
    return std::make_unique<GptDataset>(data, std::move(index), options.sequence_length);
  } catch (const Error&) {
    rethrow_with(fmt::format("{} (split {}, sequences {}..{})", reader.prefix(), name(split), first, end));
  }
}

Source blend_split(const DatasetOptions& options, const Blend& blend, const std::vector<IndexedData>& readers,
                   Split split, std::pair<double, double> share) {
  const auto requested = options.samples[split];
  const bool weighted = !blend.weights.empty();
  if (weighted && !requested)
    fail(ErrorKind::kInvalidArgument, "a blend with weights needs a number of {} samples", name(split));
  const auto weights = normalize(blend.weights);
  std::vector<Source> datasets;
  std::vector<int64_t> sizes;
  int64_t total = 0;
  for (size_t d = 0; d < readers.size(); ++d) {
    std::optional<int64_t> samples;
    if (weighted) {
      samples = samples_of_dataset(*requested, weights[d], options.mid_level_dataset_surplus);
      total += samples_of_dataset(*requested, weights[d], 0);
    }
    datasets.push_back(open_split(options, readers[d], split, share, samples));
    if (!datasets.back())
      fail(ErrorKind::kInvalidArgument,
           "{}: split {} is empty ({} sequences in the file): change the split or leave the "
           "dataset out of the blend",
           readers[d].tokens->prefix(), name(split), readers[d].tokens->index().sequences());
    sizes.push_back(datasets.back()->size());
  }
  BlendIndex index;
  if (weighted) {
    index = build_blend(weights, total);
  } else if (requested) {
    const std::vector<double> by_size(sizes.begin(), sizes.end());
    int64_t available = 0;
    for (const int64_t size : sizes) available += size;
    index = build_blend(normalize(by_size), std::min(*requested, available));
  } else {
    index = build_exhaustive_blend(sizes);
  }
  return std::make_unique<BlendedDataset>(std::move(datasets), std::move(index));
}

void check_same_sequences(const IndexedReader& tokens, const IndexedReader& mask) {
  const IndexView &a = tokens.index(), &b = mask.index();
  if (a.sequences() != b.sequences())
    fail(ErrorKind::kCorrupt, "{} has {} sequences, its loss mask {} has {}", tokens.prefix(), a.sequences(),
         mask.prefix(), b.sequences());
  for (int64_t s = 0; s < a.sequences(); ++s)
    if (a.length(s) != b.length(s))
      fail(ErrorKind::kCorrupt, "{}: sequence {} has {} tokens, in its loss mask {} it has {}",
           tokens.prefix(), s, a.length(s), mask.prefix(), b.length(s));
}

// X_loss_mask_document of X_text_document; empty for another name.
std::string mask_prefix(const std::string& prefix) {
  constexpr std::string_view kText = "_text_document";
  return prefix.ends_with(kText) ? prefix.substr(0, prefix.size() - kText.size()) + "_loss_mask_document"
                                 : "";
}

bool is_there(const std::string& prefix) {
  std::error_code ignored;
  return !prefix.empty() && std::filesystem::exists(prefix + ".idx", ignored);
}

// The mask beside it, where it is asked for and there.
Reader open_loss_mask(const DatasetOptions& options, const IndexedReader& tokens) {
  const std::string& prefix = tokens.prefix();
  const std::string mask = mask_prefix(prefix);
  if (!options.separated_loss_mask && !options.sft) {
    if (is_there(mask))
      warn(
          "{} is not used, every token is learnt: to learn what it marks set sft: true (samples are whole "
          "conversations) or apply_sft_dataset_separated_loss_mask_if_existed: true",
          mask);
    return nullptr;
  }
  if (!is_there(mask)) {
    warn("{}: no loss mask beside it ({}): every token counts", prefix,
         mask.empty() ? "its name does not end in _text_document" : mask + ".idx is not there");
    return nullptr;
  }
  auto reader = std::make_shared<IndexedReader>(mask, options.mmap_bin_files, 2);
  check_same_sequences(tokens, *reader);
  return reader;
}

std::vector<IndexedData> open_readers(const DatasetOptions& options, const Blend& blend) {
  std::vector<IndexedData> readers;
  for (const auto& prefix : blend.prefixes) {
    IndexedData data{std::make_shared<IndexedReader>(prefix, options.mmap_bin_files, options.vocab_size), {}};
    data.loss_mask = open_loss_mask(options, *data.tokens);
    readers.push_back(std::move(data));
  }
  return readers;
}

// A split that was asked for but has nothing in it: small data with the default shares. Training can go on
// without.
Source warn_if_empty(Source source, const Blend& blend, Split split, std::optional<int64_t> samples) {
  if (!source && samples.value_or(1) > 0)
    warn("{}: the {} split has no sequences, it is left out", blend.prefixes.front(), name(split));
  return source;
}

DatasetSplits build_from_shares(const DatasetOptions& options) {
  const Blend blend = parse_blend(options.data_path, "data_path");
  const SplitShares shares = parse_split(options.split);
  const auto readers = open_readers(options, blend);
  DatasetSplits result;
  for (const Split split : {kTrain, kValid, kTest}) {
    if (!shares[split]) continue;
    if (blend.prefixes.size() == 1 && blend.weights.empty())
      result[split] = open_split(options, readers[0], split, *shares[split], options.samples[split]);
    else if (options.samples[split].value_or(1) > 0)
      result[split] = blend_split(options, blend, readers, split, *shares[split]);
    result[split] = warn_if_empty(std::move(result[split]), blend, split, options.samples[split]);
  }
  return result;
}

DatasetSplits build_per_split(const DatasetOptions& options) {
  DatasetSplits result;
  for (const Split split : {kTrain, kValid, kTest}) {
    const auto& list = options.split_data_path[split];
    if (list.empty()) continue;
    const Blend blend = parse_blend(list, fmt::format("{}_data_path", name(split)));
    const auto readers = open_readers(options, blend);
    constexpr std::pair<double, double> kAll{0.0, 1.0};
    if (blend.prefixes.size() == 1)
      result[split] = open_split(options, readers[0], split, kAll, options.samples[split]);
    else if (options.samples[split].value_or(1) > 0)
      result[split] = blend_split(options, blend, readers, split, kAll);
    result[split] = warn_if_empty(std::move(result[split]), blend, split, options.samples[split]);
  }
  return result;
}

}  // namespace

const char* name(Split split) {
  switch (split) {
    case kTrain:
      return "train";
    case kValid:
      return "valid";
    case kTest:
      return "test";
  }
  return "unknown";
}

DatasetSplits build_datasets(const DatasetOptions& options) {
  if (options.sequence_length < 1)
    fail(ErrorKind::kInvalidArgument, "seq_length is {}, expected at least 1", options.sequence_length);
  bool per_split = false;
  for (const auto& list : options.split_data_path) per_split |= !list.empty();
  if (per_split && !options.data_path.empty())
    fail(ErrorKind::kInvalidArgument,
         "data_path and train_data_path/valid_data_path/test_data_path exclude each other: give one kind");
  if (!per_split && options.data_path.empty())
    fail(ErrorKind::kInvalidArgument, "required value train.data.data_path is not set");
  auto result = per_split ? build_per_split(options) : build_from_shares(options);
  if (!result[kTrain] && !result[kValid] && !result[kTest])
    fail(ErrorKind::kInvalidArgument, "no split of the data holds a sequence");
  return result;
}

std::array<std::optional<int64_t>, kSplits> requested_samples(int64_t train_iters, int64_t train_samples,
                                                              int64_t global_batch_size,
                                                              int64_t eval_interval, int64_t eval_iters) {
  FLAGSCALE_CHECK(eval_interval > 0);
  const int64_t train = train_samples > 0 ? train_samples : train_iters * global_batch_size;
  if (train_samples > 0) train_iters = train_samples / global_batch_size;
  return {train, (train_iters / eval_interval + 1) * eval_iters * global_batch_size,
          eval_iters * global_batch_size};
}

std::optional<int64_t> SampleOrder::start(int64_t consumed_samples, int64_t micro_batch) const {
  const int64_t block = micro_batch_size * data_parallel_size;
  const int64_t first = consumed_samples + micro_batch * block;
  if (first + block > total) return std::nullopt;
  return first + data_parallel_rank * micro_batch_size;
}

}  // namespace flagscale::data
