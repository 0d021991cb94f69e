#pragma once

#include <cstdint>
#include <string>

namespace flagscale::load {

// A prompt of a data set. Lengths in tokens.
struct Sample {
  std::string prompt;
  int64_t prompt_tokens = 0, output_tokens = 0;
};

}  // namespace flagscale::load
