#pragma once
// The data sets of `vllm bench serve` that need no pictures, under its names and with its defaults.

#include <optional>
#include <string>
#include <vector>

#include "load/sample.h"
#include "load/tokens.h"

namespace flagscale::load {

struct DatasetOptions {
  std::string name = "random";  // or "prefix_repetition", "sharegpt"
  std::string path;             // sharegpt: a JSON list of {"conversations": [{"value": …}, …]}
  int64_t num_prompts = 1000;
  uint64_t seed = 0;
  bool shuffle = true, oversample = true;

  int64_t input_length = 1024, output_length = 128, prefix_length = 0;  // random
  double range_ratio = 0;  // lengths are uniform within this share of them
  int64_t repeated_prefix_length = 256, suffix_length = 256, num_prefixes = 10,
          repetition_output_length = 128;
  std::optional<int64_t> sharegpt_output_length;  // none: as long as the answer in the file
};

// Throws Error naming the option or the file, as far as they can be told wrong without a tokenizer.
void check(const DatasetOptions& options);

// Prompts of exactly so many tokens, as far as text allows it: ids are drawn, decoded, encoded again and cut
// or filled up. Throws Error naming the option or the file.
std::vector<Sample> make_samples(const DatasetOptions& options, Tokens& tokens);

}  // namespace flagscale::load
