#pragma once
// A tokenizer as preprocessing uses it.

#include <memory>
#include <string>
#include <vector>

#include "data/preprocess.h"
#include "text/bpe_trainer.h"
#include "text/tokenizer.h"

namespace flagscale::data {

// What the command line says about a tokenizer: a path alone, or Megatron's names.
struct TokenizerChoice {
  std::string path;  // folder or file; what load_tokenizer() reads, or a .gguf
  std::string type;  // tokenizer_type of Megatron or FlagScale; empty: found out from the path
  std::string vocab_file, merge_file, special_tokens_file;
  int64_t vocab_size = 0;  // NullTokenizer
};

std::shared_ptr<const text::Tokenizer> open_tokenizer(const TokenizerChoice& choice);

// Sets the encoder, the vocabulary size, the end-of-document token (the tokenizer's eos) and the tokenizer's
// identity: its settings, and the name, size and time of each of its files. add_special: what the tokenizer's
// own file puts around a text (a bos) comes with every document, as Megatron's HuggingFaceTokenizer has it.
void use_tokenizer(const TokenizerChoice& choice, std::shared_ptr<const text::Tokenizer> tokenizer,
                   bool add_special, PreprocessOptions& options);

// Trains on the files, with a progress bar a phase, and writes the folder. Returns the vocabulary's size.
int64_t train_tokenizer(const std::vector<std::string>& inputs, text::BpeTraining training,
                        const std::string& folder);

}  // namespace flagscale::data
