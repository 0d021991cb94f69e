#pragma once
// Which of many words stand in a text, in one pass whatever their number (Aho-Corasick).

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flagscale::launch {

class KeywordSearch {
 public:
  // Words in lower case; texts may have any case. Error{kInvalidArgument} for an empty word.
  explicit KeywordSearch(const std::vector<std::string>& words);

  // Calls found(i) for each time that words[i] ends somewhere in the text.
  template <class Found>
  void search(std::string_view text, Found&& found) const {
    uint32_t state = 0;
    for (const char c : text) {
      state = next_[state * classes_ + class_of_[static_cast<unsigned char>(c)]];
      for (uint32_t at = state; at != 0; at = ends_before_[at])
        for (const uint32_t word : ends_[at]) found(word);
    }
  }

 private:
  void number_characters(const std::vector<std::string>& words);
  void add(const std::string& word, uint32_t index);
  void link();
  uint32_t new_state();

  std::array<uint8_t, 256> class_of_{};  // 0: in no word
  uint32_t classes_ = 1;
  std::vector<uint32_t> next_;               // [state, class]
  std::vector<std::vector<uint32_t>> ends_;  // words that end in a state
  std::vector<uint32_t> ends_before_;        // the longest proper suffix in which words end; itself 0: none
};

}  // namespace flagscale::launch
