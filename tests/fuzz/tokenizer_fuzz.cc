// folders: text
// seeds: tests/golden/text/smollm.json tests/golden/text/qwen2.json tests/golden/text/metaspace.json
// seeds: tests/golden/text/spm_bpe.model tests/golden/text/spm_kind_unigram_suffix.model
#include <string_view>

#include "base/error.h"
#include "text/bpe_encoder.h"
#include "text/bpe_json.h"
#include "text/rust_tokenizer.h"
#include "text/sentencepiece_encoder.h"
#include "text/vocab_files.h"
#include "use_tokenizer.h"

namespace {

using namespace flagscale::text;

// As load_tokenizer() chooses: a tokenizer.json, ours or the crate's; a rank file; a SentencePiece model.
std::unique_ptr<const Encoder> open(std::string_view file) {
  if (file.starts_with('{')) {
    std::string why;
    auto spec = read_bpe_json(std::string(file), "fuzz", why);
    if (!spec) return make_rust_tokenizer(file);
    return spec->characters ? make_character_bpe(std::move(*spec), "fuzz")
                            : make_bpe_encoder(std::move(*spec));
  }
  if (looks_like_tiktoken(file)) return make_bpe_encoder(read_tiktoken(file, "fuzz"));
  return make_sentencepiece(file, {}, "fuzz").encoder;
}

}  // namespace

// Reads the input as a tokenizer, and encodes and decodes a text with it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    flagscale::use_tokenizer(
        Tokenizer(open({reinterpret_cast<const char*>(data), size}), {"fuzz", -1, -1, -1, -1, ""}));
  } catch (const flagscale::Error&) {  // refused: what a damaged file deserves
  }
  return 0;
}
