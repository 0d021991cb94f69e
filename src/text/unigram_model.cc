#include "text/unigram_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "text/unicode.h"

namespace flagscale::text {
void UnigramModel::add_piece(std::string_view piece, int32_t id, float score) {
  trie_.insert(piece, id);
  if (scores_.size() <= static_cast<size_t>(id)) scores_.resize(static_cast<size_t>(id) + 1);
  scores_[static_cast<size_t>(id)] = score;
  largest_ = std::max(largest_, std::abs(score));
}

void UnigramModel::set_unknown_score(float score) {
  unknown_score_ = score;
  largest_ = std::max(largest_, std::abs(score));
}

float UnigramModel::encode(std::string_view part, float& sum, Scratch& scratch) const {
  auto& nodes = scratch.nodes;
  nodes.assign(part.size() + 1, {0, -1, -1, 0, 0});
  nodes[0] = {sum, -1, 0, 0, 0};
  size_t frontier = 0;
  for (size_t begin = 0; begin < part.size();) {
    const float here = nodes[begin].score;
    if (here < -kReset || here > kReset)
      for (size_t i = begin; i <= frontier; ++i)
        if (i == begin || nodes[i].begin >= 0) nodes[i].score -= here;
    const float base = nodes[begin].score;
    const double exact = nodes[begin].exact;
    const auto offer = [&](size_t end, int32_t id, float score) {
      frontier = std::max(frontier, end);
      auto& node = nodes[end];
      const float candidate = score + base;
      const double real = exact + static_cast<double>(score);
      const bool first = node.begin < 0;
      node.margin = first
                        ? std::numeric_limits<double>::infinity()
                        : (real > node.exact ? real - node.exact : std::min(node.margin, node.exact - real));
      node.exact = first ? real : std::max(node.exact, real);
      if (!first && candidate <= node.score) return;
      node.score = candidate;
      node.begin = static_cast<int32_t>(begin);
      node.id = id;
    };
    const size_t size = decode_char(part.data() + begin).size;
    bool single = false;
    uint32_t at = ByteTrie::kRoot;
    for (size_t end = begin; end < part.size();) {
      at = trie_.child(at, part[end++]);
      if (at == ByteTrie::kNone) break;
      const int32_t id = trie_.value(at);
      if (id < 0) continue;
      offer(end, id, scores_[static_cast<size_t>(id)]);
      single |= end - begin == size;
    }
    if (!single) offer(begin + size, -1, unknown_score_);
    begin += size;
  }
  sum = nodes[part.size()].score;
  scratch.found.clear();
  double margin = std::numeric_limits<double>::infinity();
  for (size_t end = part.size(); end > 0;) {
    const auto& node = nodes[end];
    const auto begin = static_cast<size_t>(node.begin);
    margin = std::min(margin, node.margin);
    scratch.found.push_back({node.id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
    end = begin;
  }
  std::reverse(scratch.found.begin(), scratch.found.end());
  return static_cast<float>(margin);
}

}  // namespace flagscale::text
