#include "text/word_counts.h"

#include <algorithm>
#include <atomic>
#include <string_view>
#include <unordered_map>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/parallel.h"
#include "text/scanners.h"
#include "text/unicode.h"

namespace flagscale::text {
namespace {

struct Hash {
  using is_transparent = void;
  size_t operator()(std::string_view word) const { return std::hash<std::string_view>()(word); }
};
using Counts = std::unordered_map<std::string, int64_t, Hash, std::equal_to<>>;

void count(PreTokenizer pre, std::string_view text, Counts& counts) {
  for_each_word(pre, text, [&](const char* begin, const char* end) {
    const std::string_view word(begin, static_cast<size_t>(end - begin));
    const auto found = counts.find(word);
    if (found != counts.end())
      ++found->second;
    else
      counts.emplace(word, 1);
  });
}

// Texts for one round of the team.
bool next_batch(const std::function<bool(std::string&)>& next, std::vector<std::string>& batch,
                int64_t& bytes) {
  constexpr size_t kBatchBytes = size_t{16} << 20;
  batch.clear();
  std::string text;
  for (size_t size = 0; size < kBatchBytes && next(text); size += text.size()) {
    if (const size_t valid = valid_utf8_prefix(text); valid != text.size())
      fail(ErrorKind::kInvalidArgument, "the text is not UTF-8 at byte {}",
           bytes + static_cast<int64_t>(valid));
    bytes += static_cast<int64_t>(text.size());
    batch.push_back(text);
  }
  return !batch.empty();
}

}  // namespace

std::vector<WordCount> count_words(PreTokenizer pre, const std::function<bool(std::string&)>& next,
                                   int threads, const std::function<void(int64_t)>& read) {
  const Team team(threads);
  std::vector<Counts> counts(static_cast<size_t>(team.size()));
  std::vector<std::string> batch;
  int64_t bytes = 0;
  while (next_batch(next, batch, bytes)) {
    throw_if_interrupted();
    std::atomic<size_t> taken = 0;
    team.run([&](int thread) {
      for (size_t i = taken++; i < batch.size(); i = taken++)
        count(pre, batch[i], counts[static_cast<size_t>(thread)]);
    });
    if (read) read(bytes);
  }
  for (size_t i = 1; i < counts.size(); ++i)
    for (const auto& [word, times] : counts[i]) counts[0][word] += times;
  std::vector<WordCount> result;
  result.reserve(counts[0].size());
  for (auto& [word, times] : counts[0]) result.push_back({word, times});
  std::sort(result.begin(), result.end(),
            [](const WordCount& a, const WordCount& b) { return a.word < b.word; });
  return result;
}

}  // namespace flagscale::text
