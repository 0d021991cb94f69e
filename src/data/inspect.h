#pragma once
// What is in a .bin/.idx pair: the facts that `flagscale data inspect` prints.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/split_statistics.h"

namespace flagscale::data {

struct DatasetFacts {
  std::string prefix, type;
  int64_t sequences = 0, documents = 0, empty_documents = 0, tokens = 0;
  int64_t shortest = 0, longest = 0;  // sequences
  int64_t distinct_ids = 0;
  int32_t largest_id = 0;
  double unigram_entropy = 0;                    // of all tokens
  uint64_t bin_bytes = 0, unused_bin_bytes = 0;  // unused: past what the .idx names
  bool modes = false;
  std::vector<SplitStatistics> splits;  // where they were asked for
};

// Reads everything once. split: shares as in train.data.split, or empty.
DatasetFacts inspect_dataset(const std::string& prefix, const std::string& split = "");

// The start of a document as text.
struct DocumentText {
  int64_t tokens = 0;  // of all of it
  std::string text;
  bool cut = false;  // there is more
  // Where PREFIX_loss_mask_document lies beside PREFIX_text_document: the text once more, in runs that are
  // learnt and runs that are not, and how many tokens of the document are learnt.
  struct Run {
    std::string text;
    bool learnt;
  };
  std::vector<Run> runs;
  int64_t learnt = 0;
};

// The first `count` documents, at most `max_tokens` of each; more of what has a loss mask.
std::vector<DocumentText> first_documents(const std::string& prefix, int64_t count, int64_t max_tokens,
                                          const std::function<std::string(std::span<const int32_t>)>& decode);

std::string to_text(const DatasetFacts& facts);
// A line each; of documents with a loss mask all lines, what is learnt in green or, without colour, in ⟦ ⟧.
std::string to_text(const std::vector<DocumentText>& documents, bool colour = false);
// One line. documents: where they were asked for, "first_documents".
std::string to_json(const DatasetFacts& facts, const std::vector<DocumentText>& documents = {});

}  // namespace flagscale::data
