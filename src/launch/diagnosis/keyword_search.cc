#include "launch/diagnosis/keyword_search.h"

#include <cctype>

#include "base/error.h"

namespace flagscale::launch {

KeywordSearch::KeywordSearch(const std::vector<std::string>& words) {
  number_characters(words);
  new_state();
  for (uint32_t i = 0; i < words.size(); ++i) add(words[i], i);
  link();
}

void KeywordSearch::number_characters(const std::vector<std::string>& words) {
  for (const std::string& word : words)
    for (const char c : word) {
      uint8_t& number = class_of_[static_cast<unsigned char>(c)];
      if (number == 0) number = static_cast<uint8_t>(classes_++);
    }
  for (int c = 'A'; c <= 'Z'; ++c) class_of_[c] = class_of_[std::tolower(c)];
}

uint32_t KeywordSearch::new_state() {
  next_.resize(next_.size() + classes_, 0);
  ends_.emplace_back();
  return static_cast<uint32_t>(ends_.size() - 1);
}

void KeywordSearch::add(const std::string& word, uint32_t index) {
  if (word.empty()) fail(ErrorKind::kInvalidArgument, "an empty word is everywhere");
  uint32_t state = 0;
  for (const char c : word) {
    const size_t edge = state * classes_ + class_of_[static_cast<unsigned char>(c)];
    if (next_[edge] == 0) {
      const uint32_t fresh = new_state();  // may move next_
      next_[edge] = fresh;
    }
    state = next_[edge];
  }
  ends_[state].push_back(index);
}

// Breadth first: a state's longest proper suffix is known before its children are reached.
void KeywordSearch::link() {
  std::vector<uint32_t> suffix(ends_.size(), 0), order;
  ends_before_.assign(ends_.size(), 0);
  for (uint32_t c = 0; c < classes_; ++c)
    if (next_[c] != 0) order.push_back(next_[c]);
  for (size_t i = 0; i < order.size(); ++i) {
    const uint32_t state = order[i], shorter = suffix[state];
    ends_before_[state] = ends_[shorter].empty() ? ends_before_[shorter] : shorter;
    for (uint32_t c = 0; c < classes_; ++c) {
      uint32_t& child = next_[state * classes_ + c];
      const uint32_t fallback = next_[shorter * classes_ + c];
      if (child == 0) {
        child = fallback;
      } else {
        suffix[child] = fallback;
        order.push_back(child);
      }
    }
  }
}

}  // namespace flagscale::launch
