#pragma once
// What a training loop needs to know about data: where samples come from, in which order, and how a
// micro-batch of them lies in memory. The whole state of a run is one number, the samples consumed so far.
//
// Sample order, splits and blends are Megatron-LM's to the bit for the same seed and files (gpt_dataset.h,
// blend.h).

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace flagscale::data {

// Fills what is missing at the end of a sample; never an id of a vocabulary.
inline constexpr int32_t kPadToken = -1;

// Samples of sequence_length() + 1 tokens in training order. Safe to call from several threads.
class SampleSource {
 public:
  virtual ~SampleSource() = default;
  virtual int64_t size() const = 0;
  virtual int64_t sequence_length() const = 0;
  // tokens: [sequence_length() + 1]. kPadToken after the end of the data (validation's last partial sample
  // only). Throws kInvalidArgument when index is not in [0, size()), kCorrupt when a token is not in [0,
  // vocab_size).
  virtual void sample(int64_t index, std::span<int32_t> tokens) const = 0;
  // Where the sample has a loss mask of its own: true, and 1 for each of its tokens that is to be learnt, 0
  // for the others. mask: [sequence_length() + 1]. Errors as sample().
  virtual bool loss_mask(int64_t index, std::span<int32_t> mask) const = 0;
  // Where in the sample, after its first token, something begins that sees nothing before it (a conversation
  // of several, the padding): positions and attention start anew, and the token is no label of the one
  // before.
  virtual void starts(int64_t /*index*/, std::vector<int32_t>& starts) const { starts.clear(); }
};

enum Split { kTrain = 0, kValid = 1, kTest = 2 };
inline constexpr int kSplits = 3;
const char* name(Split split);  // "train", "valid", "test"

// The names in comments are the configuration's (train.data.*, train.model.seq_length, train.system...).
struct DatasetOptions {
  // Prefixes of .bin/.idx pairs: one, several (odd count: blended by their sizes), or weight, prefix, weight,
  // prefix...
  std::vector<std::string> data_path;
  // train_data_path, valid_data_path, test_data_path: instead of data_path, one list a split; an empty list
  // is no split.
  std::array<std::vector<std::string>, kSplits> split_data_path;
  std::string split = "969, 30, 1";  // shares of data_path, normalised; cut over sequences
  int64_t sequence_length = 0;       // seq_length
  uint32_t seed = 1234;              // seed
  // Samples the run will ask for, a split; none = what one pass over the files gives. See
  // requested_samples().
  std::array<std::optional<int64_t>, kSplits> samples;
  bool mmap_bin_files = true;  // not no_mmap_bin_files
  // apply_sft_dataset_separated_loss_mask_if_existed: X_loss_mask_document beside X_text_document, the same
  // sequences with 1 for each token to learn and 0 for the others, replaces what MaskOptions says of the
  // loss.
  bool separated_loss_mask = false;
  // sft: a sequence is a conversation; samples are whole ones (packed_dataset.h). sft_packing: several of
  // them in a sample; false: one, and padding.
  bool sft = false, sft_packing = true;
  bool drop_last_partial_validation_sequence = true;  // Megatron's default
  double mid_level_dataset_surplus = 0.005;
  int64_t vocab_size = 0;  // 0: token ids are checked for sign only
  // Bytes that one file's order of samples may take: more is refused before it is made.
  uint64_t memory = std::numeric_limits<uint64_t>::max();
  std::string
      cache_path;  // data_cache_path: keeps the index arrays as .npy; empty: they are made anew in memory
};

using DatasetSplits = std::array<std::unique_ptr<SampleSource>, kSplits>;  // null where the split has no data

// Opens the files and makes the indices of every split. Errors: kInvalidArgument for options that contradict
// each other or data too small for one sample, kNotFound and kCorrupt naming the file.
DatasetSplits build_datasets(const DatasetOptions& options);

// Megatron's requests: train_iters * global_batch, (train_iters / eval_interval + 1) * eval_iters *
// global_batch, and eval_iters * global_batch. train_samples, where given (> 0), replaces the first.
std::array<std::optional<int64_t>, kSplits> requested_samples(int64_t train_iters, int64_t train_samples,
                                                              int64_t global_batch_size,
                                                              int64_t eval_interval, int64_t eval_iters);

// Sequential blocks of micro_batch_size * data_parallel_size samples, as Megatron's "single" data loader
// deals them: micro-batch m after `consumed` samples is, on rank r, the samples start .. start +
// micro_batch_size. None when the block does not fit before `total`: the remainder is dropped.
struct SampleOrder {
  int64_t total = 0;
  int64_t micro_batch_size = 1;
  int64_t data_parallel_rank = 0, data_parallel_size = 1;
  std::optional<int64_t> start(int64_t consumed_samples, int64_t micro_batch) const;
};

struct MaskOptions {
  bool packed = false;                // samples have starts()
  int32_t eod_token = -1;             // ends a document; needed by the three switches below
  bool reset_position_ids = false;    // positions start at 0 again after each eod_token
  bool reset_attention_mask = false;  // a new entry of cu_seqlens after each eod_token
  bool eod_mask_loss = false;         // no loss where the *input* token is eod_token
  // A tokenizer's own padding id (Megatron masks labels that equal it and feeds 0 instead); kPadToken: there
  // is none.
  int32_t pad_token = kPadToken;
};

// Memory of the caller for b sequences of s tokens, packed one after another: [b * s] each.
struct MicroBatch {
  std::span<int32_t> tokens;        // [b * s]
  std::span<int32_t> labels;        // [b * s], the next token
  std::span<float> loss_mask;       // [b * s], 0 or 1
  std::span<int32_t> position_ids;  // [b * s]
  std::span<int32_t> cu_seqlens;    // [capacity]: boundaries 0 .. b * s; b + 1 of them, more with
                                    // reset_attention_mask and of packed samples
};

// Positions of batches by what becomes of them.
struct TokenCounts {
  int64_t learnt = 0, masked = 0, padding = 0;
};

// Bounds the entries of cu_seqlens that a micro-batch can have.
int64_t max_cu_seqlens(int64_t sequences, int64_t sequence_length, const MaskOptions& options);

// Reads samples first .. first + b - 1 and fills the batch, b = tokens.size() / sequence_length. Entries of
// cu_seqlens past the returned live count repeat its last value. Throws kInvalidArgument when they do not
// fit.
// counts: the batch's positions are added to it; may be null.
int64_t fill_micro_batch(const SampleSource& source, int64_t first, const MaskOptions& options,
                         const MicroBatch& batch, TokenCounts* counts = nullptr);

// Whether any sample has a token that is learnt. Reads samples until one has.
bool learns_anything(const SampleSource& source, const MaskOptions& options);

}  // namespace flagscale::data
