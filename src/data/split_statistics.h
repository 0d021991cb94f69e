#pragma once
// How much text a dataset's splits hold, and what a model that only knows how often each token comes would
// lose on it.

#include <cstdint>
#include <string>
#include <vector>

#include "data/indexed_reader.h"

namespace flagscale::data {

struct SplitStatistics {
  std::string name;  // "train", "valid", "test"
  int64_t sequences = 0, tokens = 0, distinct_tokens = 0;
  int32_t largest_token = 0;
  // -sum p ln p over the split's own token frequencies, nats a token; 0 for no tokens. The loss that the best
  // prediction without context reaches on the split.
  double unigram_entropy = 0;
};

// One for each non-empty split of "95,5,0" as training cuts it (blend.h). Reads every token once; memory
// grows with the largest id only. Throws what parse_split() and IndexedReader::read() throw, and
// kInterrupted.
std::vector<SplitStatistics> split_statistics(const IndexedReader& reader, const std::string& split);

}  // namespace flagscale::data
