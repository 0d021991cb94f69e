// folders: io
// seeds: tests/golden/io/checkpoint.safetensors
// seeds: tests/golden/io/checkpoints/iter_0000007/rank_00001_00000.safetensors
#include "base/error.h"
#include "input_file.h"
#include "io/safetensors.h"

// Opens the input, and reads every tensor that it claims to have.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const flagscale::InputFile file(data, size);
  try {
    const auto weights = flagscale::io::open_safetensors(file.path);
    for (const auto& info : weights->tensors()) weights->read_f32(info.name);
  } catch (const flagscale::Error&) {  // refused: what a damaged file deserves
  }
  return 0;
}
