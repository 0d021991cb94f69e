#pragma once
// Ids of the cache's pages; it knows nothing of their bytes. Used by the engine's thread alone.

#include <cstdint>
#include <vector>

namespace flagscale::engine {

class BlockPool {
 public:
  explicit BlockPool(int32_t pages);
  int32_t free_pages() const { return static_cast<int32_t>(free_.size()); }
  // Moves `count` pages to the end of `pages`; false, and nothing done, when there are not as many.
  bool take(int32_t count, std::vector<int32_t>& pages);
  void give_back(std::vector<int32_t>& pages);  // empties `pages`

 private:
  std::vector<int32_t> free_;
};

}  // namespace flagscale::engine
