#include "engine/speculate.h"

#include <algorithm>

namespace flagscale::engine {

// One walk back over the text: at each place where the last token stands, how many tokens before it match
// too.
void propose(std::span<const int32_t> tokens, const Speculation& options, int64_t most,
             std::vector<int32_t>& drafts) {
  const auto size = static_cast<int64_t>(tokens.size());
  const auto at = [&](int64_t i) { return tokens[static_cast<size_t>(i)]; };
  if (most <= 0 || size < 2) return;
  int64_t best = options.lookup_min - 1, place = -1;
  for (int64_t end = size - 2; end >= best && best < options.lookup_max; --end) {
    if (at(end) != at(size - 1)) continue;
    int64_t length = 1;
    while (length < options.lookup_max && length <= end && at(end - length) == at(size - 1 - length))
      ++length;
    if (length > best) best = length, place = end;
  }
  if (place < 0) return;
  const int64_t count = std::min(most, size - 1 - place);
  for (int64_t i = 1; i <= count; ++i) drafts.push_back(at(place + i));
}

}  // namespace flagscale::engine
