#pragma once
// What a tokenizer's algorithm is to Tokenizer: byte-level BPE (ours), SentencePiece, the Rust crate,
// numbers.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace flagscale::text {

class ImageWriter;

class Encoder {
 public:
  virtual ~Encoder() = default;
  // Appends. text is UTF-8, checked by the caller. Any thread may call it.
  virtual void encode(std::string_view text, bool add_special, std::vector<int32_t>& ids) const = 0;
  // UTF-8; U+FFFD for bytes that are not. Ids out of range are passed over.
  virtual std::string decode(std::span<const int32_t> ids, bool skip_special) const = 0;
  virtual int32_t vocab_size() const = 0;                 // largest id + 1
  virtual std::string id_to_token(int32_t id) const = 0;  // "" if there is none
  virtual std::optional<int32_t> token_to_id(std::string_view token) const = 0;
  virtual bool is_special(int32_t id) const = 0;
  // The bytes that an id adds to a text wherever it stands; nullopt where neighbours decide.
  virtual std::optional<std::string> token_bytes(int32_t id, bool skip_special) const = 0;
  virtual bool drops_first_space() const { return false; }  // of a text that starts with one
  virtual const char* kind() const = 0;                     // "bpe", "sentencepiece", "tokenizers", "numbers"
  // Its tables, for tokenizer_image.h; false, and nothing: it has none that could be mapped.
  virtual bool put(ImageWriter&) const { return false; }
};

}  // namespace flagscale::text
