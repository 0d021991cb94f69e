#pragma once
// Trains a byte-level BPE tokenizer, as Hugging Face's BpeTrainer would: the most frequent pair is merged
// next. The same input gives the same file, whatever the number of threads.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace flagscale::text {

struct BpeTraining {
  std::string pre_tokenizer = "gpt2";  // pre_tokenizer_names()
  int32_t vocab_size = 32000;          // special tokens and the 256 bytes included
  int64_t min_frequency = 2;           // a pair seen less often is not merged
  std::vector<std::string> special_tokens = {
      "<|endoftext|>"};  // ids 0, 1, ...; the first is bos, eos and pad
  int threads = 0;       // 0: as many as there are cores
  std::function<void(std::string_view phase, int64_t done, int64_t total)> progress;  // may be empty
};

// Hands out the next text, false at the end; called by one thread. Each is UTF-8 (Error{kInvalidArgument}
// else) and pre-tokenized on its own.
using TextSource = std::function<bool(std::string& text)>;

struct TrainedBpe {
  std::string tokenizer_json;         // loads here and in Hugging Face's tokenizers
  std::string tokenizer_config_json;  // bos, eos, pad
  int32_t vocab_size = 0;             // fewer than asked for where the text has no more pairs
};
// Errors: kInvalidArgument for a vocabulary smaller than special tokens + 256, an unknown pre-tokenizer, no
// text.
TrainedBpe train_bpe(const TextSource& source, const BpeTraining& training);

// Trains on files (UTF-8 text, cut at line ends) and writes tokenizer.json and tokenizer_config.json to
// folder.
TrainedBpe train_bpe_files(const std::vector<std::string>& files, const BpeTraining& training,
                           const std::string& folder);

std::vector<std::string> pre_tokenizer_names();  // "gpt2", "llama3", "qwen2", "deepseek3", "smollm"

}  // namespace flagscale::text
