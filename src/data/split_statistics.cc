#include "data/split_statistics.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/interrupt.h"
#include "data/blend.h"

namespace flagscale::data {

namespace {

// Ids come from a file: a damaged one must not make the table of counts any size it likes.
constexpr int32_t kLargestId = (1 << 26) - 1;

void count(const IndexedReader& reader, int64_t sequence, std::vector<int64_t>& counts) {
  constexpr int64_t kChunk = 1 << 16;
  std::vector<int32_t> tokens;
  const int64_t length = reader.index().length(sequence);
  for (int64_t offset = 0; offset < length; offset += kChunk) {
    tokens.resize(static_cast<size_t>(std::min(kChunk, length - offset)));
    reader.read(sequence, offset, tokens);
    for (const int32_t token : tokens) {
      if (token < 0 || token > kLargestId)
        fail(ErrorKind::kCorrupt, "{}.bin: sequence {} has the token id {}", reader.prefix(), sequence,
             token);
      if (static_cast<size_t>(token) >= counts.size()) counts.resize(static_cast<size_t>(token) + 1);
      ++counts[static_cast<size_t>(token)];
    }
  }
}

}  // namespace

std::vector<SplitStatistics> split_statistics(const IndexedReader& reader, const std::string& split) {
  const SplitShares shares = parse_split(split);
  std::vector<SplitStatistics> result;
  for (int which = 0; which < kSplits; ++which) {
    const auto& share = shares[static_cast<size_t>(which)];
    if (!share) continue;
    const auto [first, end] = split_range(*share, reader.index().sequences());
    SplitStatistics statistics{name(static_cast<Split>(which)), end - first, 0, 0, 0, 0};
    std::vector<int64_t> counts;
    for (int64_t sequence = first; sequence < end; ++sequence) {
      throw_if_interrupted();
      count(reader, sequence, counts);
      statistics.tokens += reader.index().length(sequence);
    }
    if (!counts.empty()) statistics.largest_token = static_cast<int32_t>(counts.size() - 1);
    for (const int64_t n : counts) {
      if (n == 0) continue;
      const double p = static_cast<double>(n) / static_cast<double>(statistics.tokens);
      statistics.unigram_entropy -= p * std::log(p);
      ++statistics.distinct_tokens;
    }
    result.push_back(std::move(statistics));
  }
  return result;
}

}  // namespace flagscale::data
