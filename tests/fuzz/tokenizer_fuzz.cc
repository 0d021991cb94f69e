// folders: text
// seeds: tests/golden/text/smollm.json
// seeds: tests/golden/text/qwen2.json
// seeds: tests/golden/text/metaspace.json
#include <string_view>

#include "base/error.h"
#include "text/bpe_encoder.h"
#include "text/bpe_json.h"
#include "text/rust_tokenizer.h"
#include "text/tokenizer.h"

// Reads the input as a tokenizer.json, ours or the crate's as load_tokenizer() chooses, and encodes a text
// with it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flagscale::text;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  try {
    std::string why;
    auto spec = read_bpe_json(json, "fuzz", why);
    const Tokenizer tokenizer(spec ? make_bpe_encoder(std::move(*spec)) : make_rust_tokenizer(json),
                              {"fuzz", -1, -1, -1, -1, ""});
    const auto ids = tokenizer.encode("It's 1234 e\u0301 \u5317\u4eac <|im_end|>\n\n  end", true);
    tokenizer.decode(ids, false);
    StreamDecoder stream(tokenizer);
    for (const int32_t id : ids) stream.put(id);
    stream.finish();
  } catch (const flagscale::Error&) {  // refused: what a damaged file deserves
  }
  return 0;
}
