#pragma once
// The vocabulary that a GGUF file carries, as its reader hands it over; views point into the file.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flagscale::text {

struct GgufVocab {
  std::string model;  // tokenizer.ggml.model: "gpt2" (byte-level BPE) or "llama" (SentencePiece)
  std::string
      pre;  // tokenizer.ggml.pre: "llama-bpe", "qwen2", "smollm", ...; names the pre-tokenizer of "gpt2"
  std::vector<std::string_view> tokens;
  std::vector<std::string_view> merges;  // "gpt2": "Ġ t", the first merges first
  std::vector<int64_t> types;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte; or empty
  std::vector<double> scores;  // "llama"; or empty
  int64_t bos = -1, eos = -1, unk = -1, pad = -1;
  bool add_bos = false, add_eos = false, add_space_prefix = true;
  std::string_view chat_template;  // or empty
};

}  // namespace flagscale::text
