#include "engine/block_pool.h"

namespace flagscale::engine {

BlockPool::BlockPool(int32_t pages) {
  for (int32_t page = pages; page-- > 0;) free_.push_back(page);
}

bool BlockPool::take(int32_t count, std::vector<int32_t>& pages) {
  if (count > free_pages()) return false;
  for (int32_t i = 0; i < count; ++i) {
    pages.push_back(free_.back());
    free_.pop_back();
  }
  return true;
}

void BlockPool::give_back(std::vector<int32_t>& pages) {
  free_.insert(free_.end(), pages.rbegin(), pages.rend());
  pages.clear();
}

}  // namespace flagscale::engine
