#include "engine/schedule.h"

#include <algorithm>

namespace flagscale::engine {

std::vector<Chunk> plan_step(const std::vector<Progress>& running, int64_t budget) {
  std::vector<Chunk> chunks;
  for (const bool decode : {true, false})
    for (size_t i = 0; i < running.size(); ++i) {
      const int64_t left = running[i].tokens - running[i].cached;
      if (left <= 0 || (left == 1) != decode || budget <= 0) continue;
      const int64_t count = std::min(left, budget);
      chunks.push_back({static_cast<int>(i), running[i].cached, count});
      budget -= count;
    }
  return chunks;
}

}  // namespace flagscale::engine
