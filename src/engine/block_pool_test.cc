#include "engine/block_pool.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace flagscale::engine {
namespace {

std::vector<int32_t> tokens(int32_t a, int32_t b = 0) { return {a, b}; }

TEST(BlockPool, FreePagesKeepTheirContentUntilTheyAreTakenOldestFirst) {
  BlockPool pool(3, 2);
  const int32_t a = pool.take(), b = pool.take(), c = pool.take();
  EXPECT_EQ(pool.take(), BlockPool::kNone);
  pool.record(a, 0, "", tokens(1));
  pool.record(b, pool.node(a), "", tokens(2));
  pool.release(b);
  pool.release(a);
  pool.release(c);  // without a name: nobody misses it
  EXPECT_EQ(pool.free_pages(), 3);
  EXPECT_EQ(pool.take(), c);
  EXPECT_EQ(pool.find(0, "", tokens(1)), a);
  EXPECT_EQ(pool.take(), b);
  EXPECT_EQ(pool.find(pool.node(a), "", tokens(2)), BlockPool::kNone);
  pool.hold(a);
  EXPECT_EQ(pool.take(), BlockPool::kNone);
}

TEST(BlockPool, ContentIsFoundOnlyUnderItsParentAndScope) {
  BlockPool pool(4, 2);
  const int32_t a = pool.take(), b = pool.take(), c = pool.take();
  EXPECT_EQ(pool.record(a, 0, "x", tokens(1)), a);
  EXPECT_EQ(pool.record(b, 0, "y", tokens(1)), b);
  EXPECT_EQ(pool.record(c, 0, "x", tokens(1)), a) << "known already";
  EXPECT_EQ(pool.node(c), 0u);
  EXPECT_EQ(pool.record(c, pool.node(b), "y", tokens(7)), c);
  EXPECT_EQ(pool.find(pool.node(a), "x", tokens(7)), BlockPool::kNone);
  EXPECT_EQ(pool.find(pool.node(b), "y", tokens(7)), c);
  EXPECT_EQ(pool.find(0, "", tokens(1)), BlockPool::kNone);
}

// Random use against a model of maps: counts, contents, and that a name never leads to another content.
TEST(BlockPool, AgreesWithMapsUnderRandomUse) {
  std::mt19937 random(1);
  const auto upto = [&](size_t n) { return static_cast<size_t>(random() % n); };
  BlockPool pool(12, 2);
  std::vector<int32_t> held;                                              // one entry a holder
  std::map<uint64_t, std::pair<uint64_t, std::vector<int32_t>>> content;  // node -> (parent, tokens)
  std::set<uint64_t> used;
  for (int round = 0; round < 20000; ++round) {
    const size_t action = upto(4);
    if (action == 0) {
      const int32_t page = pool.take();
      EXPECT_EQ(page == BlockPool::kNone, std::set<int32_t>(held.begin(), held.end()).size() == 12);
      if (page != BlockPool::kNone) held.push_back(page);
    } else if (action == 1 && !held.empty()) {
      const size_t i = upto(held.size());
      pool.release(held[i]);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(i));
    } else if (action == 2 && !held.empty()) {
      const int32_t page = held[upto(held.size())], parent = held[upto(held.size())];
      if (pool.node(page) != 0 || page == parent) continue;
      const std::pair key{pool.node(parent), tokens(static_cast<int32_t>(upto(3)))};
      const int32_t known = pool.record(page, key.first, "", key.second);
      if (known == page) {
        ASSERT_TRUE(used.insert(pool.node(page)).second);
        content[pool.node(page)] = key;
      } else {
        ASSERT_EQ(content.at(pool.node(known)), key);
      }
    } else {
      const int32_t id = static_cast<int32_t>(upto(3));
      const uint64_t parent = held.empty() ? 0 : pool.node(held[upto(held.size())]);
      const int32_t page = pool.find(parent, "", tokens(id));
      if (page == BlockPool::kNone) continue;
      ASSERT_EQ(content.at(pool.node(page)), std::pair(parent, tokens(id)));
      if (upto(2) == 0) pool.hold(page), held.push_back(page);
    }
    ASSERT_EQ(pool.held_pages(), static_cast<int32_t>(std::set<int32_t>(held.begin(), held.end()).size()));
  }
}

}  // namespace
}  // namespace flagscale::engine
