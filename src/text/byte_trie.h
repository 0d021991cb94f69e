#pragma once
// Strings to numbers, for finding all that start a text: a trie whose edges lie in one hash table.

#include <bit>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/image.h"

namespace flagscale::text {

class ByteTrie {
 public:
  static constexpr uint32_t kRoot = 0, kNone = ~uint32_t{0};
  static constexpr size_t kMostNodes = size_t{1} << 24;  // of different prefixes, the empty one included

  ByteTrie() = default;
  explicit ByteTrie(ImageReader& image)  // what put() wrote
      : values_(image.copy<int32_t>()), edges_(image.copy<Edge>()) {
    shift_ = 32 - std::countr_zero(edges_.size());
  }
  void put(ImageWriter& image) const {
    image.array(std::span(values_));
    image.array(std::span(edges_));
  }

  // Keys are not empty.
  void insert(std::string_view key, int32_t value) {
    uint32_t node = kRoot;
    for (const char byte : key) {
      const uint32_t known = child(node, byte);
      node = known == kNone ? add_edge(node, byte) : known;
    }
    values_[node] = value;
  }
  bool empty() const { return values_.size() == 1; }

  uint32_t child(uint32_t node, char byte) const {
    const uint32_t key = key_of(node, byte);
    for (size_t at = place(key);; at = (at + 1) & (edges_.size() - 1)) {
      if (edges_[at].key == key) return edges_[at].node;
      if (edges_[at].node == kNone) return kNone;
    }
  }
  int32_t value(uint32_t node) const { return values_[node]; }  // -1: no key ends here

  // Bytes of the longest key that starts `text`, 0 if none does; its value.
  size_t longest(std::string_view text, int32_t& value) const {
    size_t length = 0;
    uint32_t node = kRoot;
    for (size_t i = 0; i < text.size(); ++i) {
      node = child(node, text[i]);
      if (node == kNone) break;
      if (values_[node] >= 0) length = i + 1, value = values_[node];
    }
    return length;
  }

 private:
  struct Edge {
    uint32_t key = 0, node = kNone;  // node kNone: free
  };
  static uint32_t key_of(uint32_t node, char byte) { return node << 8 | static_cast<unsigned char>(byte); }
  size_t place(uint32_t key) const { return key * 0x9e3779b1u >> shift_; }

  uint32_t add_edge(uint32_t node, char byte) {
    if (values_.size() * 2 > edges_.size()) grow();
    const auto made = static_cast<uint32_t>(values_.size());
    values_.push_back(-1);
    place_edge({key_of(node, byte), made});
    return made;
  }
  void place_edge(Edge edge) {
    size_t at = place(edge.key);
    while (edges_[at].node != kNone) at = (at + 1) & (edges_.size() - 1);
    edges_[at] = edge;
  }
  void grow() {
    std::vector<Edge> old(edges_.size() * 2);
    old.swap(edges_);
    shift_ = 32 - std::countr_zero(edges_.size());
    for (const Edge& edge : old)
      if (edge.node != kNone) place_edge(edge);
  }

  std::vector<int32_t> values_ = {-1};
  std::vector<Edge> edges_ = std::vector<Edge>(256);
  int shift_ = 24;
};

}  // namespace flagscale::text
