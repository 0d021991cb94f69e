// folders: io text
// seeds: tests/golden/io/llama.gguf tests/golden/io/sentencepiece.gguf
#include "base/error.h"
#include "input_file.h"
#include "io/gguf_weights.h"
#include "text/gguf_vocab.h"
#include "use_tokenizer.h"

namespace {
template <class Body>
void refusable(Body body) {
  try {
    body();
  } catch (const flagscale::Error&) {  // refused: what a damaged file deserves
  }
}
}  // namespace

// Opens the input, makes the configuration and the tokenizer, and reads every tensor.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flagscale::io;
  const flagscale::InputFile input(data, size);
  refusable([&] {
    const GgufFile file(input.path);
    refusable([&] { gguf_config_json(file, flagscale::DType::kF32); });
    refusable([&] { gguf_generation_config_json(file); });
    refusable([&] { gguf_tokenizer_config_json(file); });
    refusable([&] {
      const auto vocab = gguf_tokenizer(file).as<flagscale::text::GgufVocab>();
      flagscale::use_tokenizer(*flagscale::text::tokenizer_from_gguf(vocab, "fuzz"));
      flagscale::text::tokenizer_json(vocab, "fuzz");  // what an import writes
    });
    const auto weights = open_gguf_weights(input.path);
    for (const auto& info : weights->tensors()) refusable([&] { weights->read_f32(info.name); });
  });
  return 0;
}
