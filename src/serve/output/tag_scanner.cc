#include "serve/output/tag_scanner.h"

#include <algorithm>
#include <utility>

namespace flagscale::serve {

TagScanner::TagScanner(std::vector<std::string> tags) {
  for (std::string& text : tags) {
    Tag tag{std::move(text), {}, 0};
    tag.fallback.assign(tag.text.size() + 1, 0);
    for (size_t i = 1, length = 0; i < tag.text.size(); ++i) {
      while (length > 0 && tag.text[i] != tag.text[length]) length = tag.fallback[length];
      if (tag.text[i] == tag.text[length]) ++length;
      tag.fallback[i + 1] = length;
    }
    tags_.push_back(std::move(tag));
  }
}

int TagScanner::advance(char c) {
  int found = -1;
  for (size_t i = 0; i < tags_.size(); ++i) {
    Tag& tag = tags_[i];
    while (tag.matched > 0 && tag.text[tag.matched] != c) tag.matched = tag.fallback[tag.matched];
    if (tag.text[tag.matched] == c) ++tag.matched;
    if (tag.matched == tag.text.size() &&
        (found < 0 || tag.text.size() > tags_[static_cast<size_t>(found)].text.size()))
      found = static_cast<int>(i);
  }
  return found;
}

size_t TagScanner::longest() const {
  size_t longest = 0;
  for (const Tag& tag : tags_) longest = std::max(longest, tag.matched);
  return longest;
}

int TagScanner::put(std::string_view& text, std::string& before) {
  if (tags_.empty()) {
    before += std::exchange(text, {});
    return -1;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    held_ += text[i];
    const int found = advance(text[i]);
    if (found >= 0) {
      before.append(held_, 0, held_.size() - tags_[static_cast<size_t>(found)].text.size());
      held_.clear();
      for (Tag& tag : tags_) tag.matched = 0;
      text.remove_prefix(i + 1);
      return found;
    }
    const size_t certain = held_.size() - longest();
    before.append(held_, 0, certain);
    held_.erase(0, certain);
  }
  text = {};
  return -1;
}

std::string TagScanner::rest() {
  for (Tag& tag : tags_) tag.matched = 0;
  return std::exchange(held_, {});
}

}  // namespace flagscale::serve
