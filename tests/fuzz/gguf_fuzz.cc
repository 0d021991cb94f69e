// folders: io
// seeds: tests/golden/io/llama.gguf
#include "base/error.h"
#include "input_file.h"
#include "io/gguf_weights.h"

namespace {
template <class Body>
void refusable(Body body) {
  try {
    body();
  } catch (const flagscale::Error&) {  // refused: what a damaged file deserves
  }
}
}  // namespace

// Opens the input, reads every tensor, and makes the configuration and the tokenizer's data.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace flagscale::io;
  const flagscale::InputFile input(data, size);
  refusable([&] {
    const GgufFile file(input.path);
    refusable([&] { gguf_config_json(file, flagscale::DType::kF32); });
    refusable([&] { gguf_generation_config_json(file); });
    refusable([&] { gguf_tokenizer_config_json(file); });
    const auto weights = open_gguf_weights(input.path);
    for (const auto& info : weights->tensors()) refusable([&] { weights->read_f32(info.name); });
  });
  return 0;
}
