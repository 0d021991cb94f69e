#pragma once
// Text to token ids and back: one class over every tokenizer file read here.
//
//   const auto tokenizer = load_tokenizer("models/SmolLM2-135M-Instruct");
//   std::vector<int32_t> ids = tokenizer->encode("Hello", /*add_special=*/true);
//
// Ids are those of Hugging Face's `tokenizers` for the same file (SentencePiece's own for a bare .model).
// Special and added tokens that stand in the text become their ids, as there. A Tokenizer is immutable: any
// thread may call it. encode() throws Error{kInvalidArgument} for text that is not UTF-8, naming the byte.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template.h"
#include "text/encoder.h"

namespace flagscale::text {

struct GgufVocab;

// What stands around the encoder in tokenizer_config.json and its like.
struct TokenizerInfo {
  std::string source;  // the path, for messages
  int32_t bos = -1, eos = -1, pad = -1, unk = -1;
  std::string chat_template;  // "" = none
};

class Tokenizer {
 public:
  Tokenizer(std::unique_ptr<const Encoder> encoder, TokenizerInfo info);

  // add_special: what the file's post-processor adds around a single text (a bos, an eos, or nothing).
  std::vector<int32_t> encode(std::string_view text, bool add_special = false) const;
  void encode(std::string_view text, bool add_special, std::vector<int32_t>& ids) const;  // appends

  // Unknown ids are passed over. The result is UTF-8: bytes that are not become U+FFFD.
  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const;

  // One more than the largest id, added tokens included: at least as many rows as an embedding needs.
  int32_t vocab_size() const { return encoder_->vocab_size(); }
  std::string id_to_token(int32_t id) const;  // as the file spells it ("Ġthe"); "" if there is none
  std::optional<int32_t> token_to_id(std::string_view token) const;
  bool is_special(int32_t id) const { return encoder_->is_special(id); }

  int32_t bos() const { return info_.bos; }  // -1 = none, as the others
  int32_t eos() const { return info_.eos; }
  int32_t pad() const { return info_.pad; }
  int32_t unk() const { return info_.unk; }
  const std::string& source() const { return info_.source; }
  const Encoder& encoder() const { return *encoder_; }

  bool has_chat_template() const { return !info_.chat_template.empty(); }
  const std::string& chat_template_source() const { return info_.chat_template; }
  // The template of this file with bos_token, eos_token and the like set. Error{kNotFound} without one.
  const ChatTemplate& chat_template() const;

 private:
  std::unique_ptr<const Encoder> encoder_;
  TokenizerInfo info_;
  std::unique_ptr<const ChatTemplate> template_;
  std::string template_error_;
};

// Text as it streams out: put() returns what is certain after each id, never a part of a character.
class StreamDecoder {
 public:
  // context: the ids before the first put() one (the end of a prompt); they are not returned, but they decide
  // a leading space with SentencePiece.
  explicit StreamDecoder(const Tokenizer& tokenizer, std::span<const int32_t> context = {},
                         bool skip_special = true);
  std::string put(int32_t id);
  std::string finish();  // what was held back; bytes that never became a character are U+FFFD

 private:
  std::string put_bytes(std::string_view bytes);
  std::string put_in_window(int32_t id);

  const Tokenizer& tokenizer_;
  bool skip_special_, at_start_;
  std::string held_;             // bytes of an unfinished character
  std::vector<int32_t> window_;  // ids shown last, then those not shown yet
  size_t shown_ = 0;
};

// Reads a tokenizer, choosing by what is there:
//   a folder with tokenizer.json, tokenizer.model, *.tiktoken, or vocab.json + merges.txt (+
//   special_tokens.txt); tokenizer_config.json, special_tokens_map.json and chat_template.jinja beside it are
//   read too; a tokenizer.json, SentencePiece .model or .tiktoken file.
// A .gguf file is opened by io: tokenizer_from_gguf(). Errors: kNotFound naming what was looked for,
// kCorrupt, kUnsupported.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path);

// `source` names the file in messages. Errors: kUnsupported for a model or pre-tokenizer not known here.
std::unique_ptr<Tokenizer> tokenizer_from_gguf(const GgufVocab& vocab, const std::string& source);

// The tokenizer.json that Hugging Face would hold for the vocabulary; "" for SentencePiece ones, see
// sentencepiece_model(). Errors: as tokenizer_from_gguf().
std::string tokenizer_json(const GgufVocab& vocab, const std::string& source);
// The SentencePiece .model of a "llama" vocabulary.
std::string sentencepiece_model(const GgufVocab& vocab, const std::string& source);

// Megatron's way to name a tokenizer (train.data.tokenizer.*). Empty strings are unset keys.
struct MegatronTokenizer {
  std::string
      type;  // tokenizer_type: AquilaTokenizerFS, QwenTokenizerFS, HuggingFaceTokenizer, Llama2Tokenizer, ...
  std::string vocab_file, merge_file, special_tokens_file;  // AquilaTokenizerFS, GPT2BPETokenizer
  std::string tokenizer_model;                              // Llama2Tokenizer, SentencePieceTokenizer, ...
  std::string tokenizer_path;                               // FlagScale's: a folder
  int64_t vocab_size = 0;                                   // NullTokenizer
};
// Errors: kUnsupported for a type that is not known (all that are follow), kConfig for a missing key.
std::unique_ptr<Tokenizer> load_megatron_tokenizer(const MegatronTokenizer& spec);

}  // namespace flagscale::text
