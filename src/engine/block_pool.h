#pragma once
// Ids of the cache's pages, who holds them, and the prefix cache: which page has which content. It knows
// nothing of their bytes. Used by the engine's thread alone.
//
// A page is free when nobody holds it; a free page keeps its content and its name until it is taken again,
// least recently used first. Content is named by a node: (node of the page before it, its tokens), the first
// page by (scope, its tokens). Nodes are compared token by token and never used twice, so equal nodes mean
// equal prefixes, whatever hashes do.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace flagscale::engine {

class BlockPool {
 public:
  static constexpr int32_t kNone = -1;

  BlockPool(int32_t pages, int32_t page_tokens);

  int32_t pages() const { return static_cast<int32_t>(entries_.size()); }
  int32_t free_pages() const { return free_count_; }
  int32_t held_pages() const { return pages() - free_count_; }
  int32_t holders(int32_t page) const { return entry(page).holders; }

  // A free page, held once by the caller, its old content forgotten; kNone when there is none.
  int32_t take();
  void hold(int32_t page);     // once more; also a free page that find() named
  void release(int32_t page);  // once; the last release frees it

  // The page with these page_tokens tokens after `parent` (0: at the start of `scope`), or kNone.
  int32_t find(uint64_t parent, std::string_view scope, std::span<const int32_t> tokens) const;
  uint64_t node(int32_t page) const { return entry(page).node; }  // 0: content without a name

  // Names the content of a held page. Where that content has a page already, that page is returned and
  // nothing changes; else `page` itself.
  int32_t record(int32_t page, uint64_t parent, std::string_view scope, std::span<const int32_t> tokens);

 private:
  struct Entry {
    int32_t holders = 0;
    int32_t before = kNone, after = kNone;  // in the list of free pages
    int32_t next = kNone;                   // in its bucket
    uint32_t bucket = 0;
    uint64_t node = 0, parent = 0;
    std::string scope;  // of first pages
  };
  Entry& entry(int32_t page) { return entries_[static_cast<size_t>(page)]; }
  const Entry& entry(int32_t page) const { return entries_[static_cast<size_t>(page)]; }
  std::span<int32_t> tokens_of(int32_t page);
  std::span<const int32_t> tokens_of(int32_t page) const;
  uint32_t bucket_of(uint64_t parent, std::string_view scope, std::span<const int32_t> tokens) const;
  void push_free(int32_t page);
  void pop_free(int32_t page);
  void forget(int32_t page);

  const size_t page_tokens_;
  std::vector<Entry> entries_;
  std::vector<int32_t> tokens_;   // [pages, page_tokens], of named pages
  std::vector<int32_t> buckets_;  // first page of each; a power of two
  int32_t oldest_ = kNone, newest_ = kNone, free_count_ = 0;
  uint64_t next_node_ = 1;
};

}  // namespace flagscale::engine
