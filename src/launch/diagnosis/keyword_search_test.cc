#include "launch/diagnosis/keyword_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/error.h"

namespace flagscale::launch {
namespace {

std::vector<uint32_t> all(const std::vector<std::string>& words, const std::string& text) {
  std::vector<uint32_t> found;
  KeywordSearch(words).search(text, [&](uint32_t i) { found.push_back(i); });
  std::sort(found.begin(), found.end());
  return found;
}

TEST(KeywordSearch, FindsWordsWithinWordsInAnyCase) {
  EXPECT_EQ(all({"he", "she", "his", "hers"}, "uSHERs"), (std::vector<uint32_t>{0, 1, 3}));
  EXPECT_EQ(all({"ab", "b"}, "abab"), (std::vector<uint32_t>{0, 0, 1, 1}));
  EXPECT_TRUE(all({"abc"}, "ab\xff c").empty());
  EXPECT_THROW(KeywordSearch({"a", ""}), Error);
}

// Small alphabets make words overlap in every way.
TEST(KeywordSearch, AgreesWithLookingForEachWord) {
  std::mt19937 random(7);
  const auto word = [&](size_t longest) {
    std::string text(1 + random() % longest, 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 3);
    return text;
  };
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> words(1 + random() % 8);
    for (std::string& w : words) w = word(6);
    const std::string text = word(80);
    std::vector<uint32_t> expected;
    for (uint32_t i = 0; i < words.size(); ++i)
      for (size_t at = text.find(words[i]); at != std::string::npos; at = text.find(words[i], at + 1))
        expected.push_back(i);
    EXPECT_EQ(all(words, text), expected) << text;
  }
}

}  // namespace
}  // namespace flagscale::launch
