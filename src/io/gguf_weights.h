#pragma once
// A GGUF file as Hugging Face would name it: tensors renamed for the architectures known here (llama, also
// with Mixtral's experts, qwen2, qwen3, qwen2moe, qwen3moe; others keep their stored names), one tensor for
// each expert, q and k rows of `llama` in Hugging Face's order, config.json and tokenizer data.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"
#include "io/weights.h"

namespace flagscale::io {

std::unique_ptr<WeightSet> open_gguf_weights(const std::string& path);

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; "" for what Hugging Face does not store
// (rope_freqs), the stored name for what is not known.
std::string hf_name(std::string_view gguf_name);

// The texts of Hugging Face's files. Errors: kUnsupported for another architecture or a feature that it
// cannot express.
std::string gguf_config_json(const GgufFile& file, DType dtype);
std::string gguf_generation_config_json(const GgufFile& file);
std::string gguf_tokenizer_config_json(const GgufFile& file);

// What a tokenizer is made from; views point into the file.
struct GgufTokenizer {
  std::string model;  // "gpt2", "llama" (SentencePiece), ...
  std::string pre;    // the pre-tokenizer's name: "llama-bpe", "qwen2", "smollm", ...
  GgufStrings tokens, merges;
  GgufInts types;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  GgufFloats scores;
  int64_t bos = -1, eos = -1, unk = -1, pad = -1;
  bool add_bos = false, add_eos = false, add_space_prefix = true;
  std::string_view chat_template;

  // The same members in another layer's struct, which io does not see:
  // gguf_tokenizer(file).as<text::GgufVocab>().
  template <class Vocab>
  Vocab as() const {
    Vocab vocab;
    vocab.model = model, vocab.pre = pre;
    vocab.tokens = tokens, vocab.merges = merges, vocab.types = types, vocab.scores = scores;
    vocab.bos = bos, vocab.eos = eos, vocab.unk = unk, vocab.pad = pad;
    vocab.add_bos = add_bos, vocab.add_eos = add_eos, vocab.add_space_prefix = add_space_prefix;
    vocab.chat_template = chat_template;
    return vocab;
  }
};
GgufTokenizer gguf_tokenizer(const GgufFile& file);

}  // namespace flagscale::io
