#include "train/keys/key_groups.h"

namespace flagscale::train {
namespace {

void add_tokenizer(TrainSchema& keys) {
  keys.acts("tokenizer_type", FLAGSCALE_FIELD(tokenizer, tokenizer_type),
            {.doc = "Megatron's or FlagScale's name of the kind; the files decide what is read"});
  keys.acts("tokenizer_path", FLAGSCALE_FIELD(tokenizer, tokenizer_path),
            {.doc = "folder with tokenizer.json or tokenizer.model, or a GGUF file"});
  keys.acts("tokenizer_model", FLAGSCALE_FIELD(tokenizer, tokenizer_model),
            {.doc = "tokenizer.model, tokenizer.json or their folder"});
  keys.acts("vocab_file", FLAGSCALE_FIELD(tokenizer, vocab_file), {.doc = "vocab.json of a byte-level BPE"});
  keys.acts("merge_file", FLAGSCALE_FIELD(tokenizer, merge_file), {.doc = "merges.txt of a byte-level BPE"});
  keys.acts("special_tokens_file", FLAGSCALE_FIELD(tokenizer, special_tokens_file),
            {.doc = "special tokens beside vocab_file, one a line"});
  keys.acts("vocab_size", FLAGSCALE_FIELD(tokenizer, vocab_size),
            {.doc = "tokens before padding; none: the tokenizer's", .least = 1});
  keys.acts("make_vocab_size_divisible_by", FLAGSCALE_FIELD(tokenizer, make_vocab_size_divisible_by),
            {.doc = "rows of the embedding are padded to a multiple of this", .least = 1});
  keys.ignored("legacy_tokenizer", "there is one tokenizer code");
  keys.refused("extra_vocab_size", "more rows in the embedding than the tokenizer has");
}

}  // namespace

void add_data_keys(TrainSchema& keys) {
  keys.acts("data_path", FLAGSCALE_FIELD(data, data_path),
            {.doc = "prefixes of .bin/.idx pairs: one, several, or weight and prefix in turn"});
  keys.acts("train_data_path", [](TrainConfig& c) -> auto& { return c.data.split_data_path[0]; },
            {.doc = "instead of data_path: the training data"});
  keys.acts("valid_data_path", [](TrainConfig& c) -> auto& { return c.data.split_data_path[1]; },
            {.doc = "instead of data_path: the data to evaluate on"});
  keys.acts("test_data_path", [](TrainConfig& c) -> auto& { return c.data.split_data_path[2]; },
            {.doc = "instead of data_path: the data of the last evaluation"});
  keys.acts("split", FLAGSCALE_FIELD(data, split),
            {.doc = "shares of data_path to train on, evaluate on and test on"});
  keys.acts("data_cache_path", FLAGSCALE_FIELD(data, data_cache_path),
            {.doc = "folder that keeps the order of samples; none: made anew in memory"});
  keys.acts("no_mmap_bin_files", FLAGSCALE_FIELD(data, no_mmap_bin_files),
            {.doc = "read the data file piece by piece instead of mapping it"});
  keys.acts("reset_position_ids", FLAGSCALE_FIELD(data, reset_position_ids),
            {.doc = "positions start at 0 after the end of a document"});
  keys.acts("reset_attention_mask", FLAGSCALE_FIELD(data, reset_attention_mask),
            {.doc = "a document does not see the one before it"});
  keys.acts("eod_mask_loss", FLAGSCALE_FIELD(data, eod_mask_loss),
            {.doc = "no loss where the input is the end of a document"});
  keys.acts("apply_sft_dataset_separated_loss_mask_if_existed", FLAGSCALE_FIELD(data, separated_loss_mask),
            {.doc = "X_loss_mask_document beside X_text_document says with 1 or 0 which tokens are learnt"});
  keys.acts(
      "sft", FLAGSCALE_FIELD(data, sft),
      {.doc = "the data is conversations (data preprocess --conversations): samples are whole ones, and "
              "the loss masks beside them act"});
  keys.acts("sft_packing", FLAGSCALE_FIELD(data, sft_packing),
            {.doc = "several conversations in a sample, each with positions and attention of its own; none: "
                    "yes; false: one, and padding"});
  add_tokenizer(keys);
  keys.ignored("num_workers", "samples are read by the trainer's own thread");
  keys.ignored("no_create_attention_mask_in_dataloader", "no mask is ever made: sequences are packed");
  keys.ignored("dataloader_save", "the position in the data is in the checkpoint");
  keys.refused("dataloader_type", "another order of samples, or a loader of one's own", {"single"});
  keys.refused("mock_data", "made-up data");
}

}  // namespace flagscale::train
