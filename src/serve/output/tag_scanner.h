#pragma once
// Finds the first of some tags in a text that comes in pieces. What cannot be part of a tag is handed on at
// once; the result is the same however the text is cut.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace flagscale::serve {

class TagScanner {
 public:
  explicit TagScanner(std::vector<std::string> tags);  // none empty

  // Takes characters from the front of `text` until one completes a tag. Appends what is certain to stand
  // before a tag to `before`. Returns the tag's index (of several that end here the longest), or -1 when all
  // of `text` was taken.
  int put(std::string_view& text, std::string& before);

  // What was held back, at the end of the text.
  std::string rest();

 private:
  struct Tag {
    std::string text;
    std::vector<size_t> fallback;  // Knuth-Morris-Pratt
    size_t matched = 0;
  };
  int advance(char c);  // index of a completed tag, or -1
  size_t longest() const;

  std::vector<Tag> tags_;
  std::string held_;  // as long as the longest partial match
};

}  // namespace flagscale::serve
