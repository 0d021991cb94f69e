#include "engine/tokenizer_cache.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/temporary_folder_test_support.h"

namespace flagscale::engine {
namespace {

namespace fs = std::filesystem;

class TokenizerCache : public ::testing::Test {
 protected:
  TokenizerCache() {
    setenv("XDG_CACHE_HOME", (fs::path(folder_.path) / "cache").c_str(), 1);
    write_vocabulary();
  }
  ~TokenizerCache() override { unsetenv("XDG_CACHE_HOME"); }

  // Every text of one to three of 36 characters is a token: large enough to be kept.
  void write_vocabulary() const {
    const std::string characters = "abcdefghijklmnopqrstuvwxyz0123456789";
    std::ofstream vocab(fs::path(folder_.path) / "vocab.json"), merges(fs::path(folder_.path) / "merges.txt");
    std::vector<std::string> longest{""};
    int id = 0;
    for (int size = 1; size <= 3; ++size) {
      std::vector<std::string> next;
      for (const std::string& start : longest)
        for (const char end : characters) {
          vocab << (id == 0 ? "{\"" : ", \"") << start << end << "\": " << id, ++id;
          if (!start.empty()) merges << start << ' ' << end << '\n';
          next.push_back(start + end);
        }
      longest = std::move(next);
    }
    vocab << '}';
  }
  std::vector<fs::path> entries() const {
    std::vector<fs::path> result;
    for (const auto& file : fs::recursive_directory_iterator(fs::path(folder_.path) / "cache"))
      if (file.is_regular_file()) result.push_back(file.path());
    return result;
  }
  // The ids of a text; whether the vocabulary was read for them.
  std::pair<std::vector<int32_t>, bool> encode() const {
    bool made = false;
    const auto tokenizer = cached_tokenizer({(fs::path(folder_.path) / "vocab.json").string()}, [&] {
      made = true;
      return text::load_tokenizer(folder_.path);
    });
    return {tokenizer->encode("abcde 0z9y unread"), made};
  }
  TemporaryFolder folder_;
};

TEST_F(TokenizerCache, ASecondStartReadsNoVocabulary) {
  const auto [ids, made] = encode();
  EXPECT_TRUE(made);
  EXPECT_GT(ids.size(), 4u);
  ASSERT_EQ(entries().size(), 1u);
  EXPECT_EQ(encode(), std::pair(ids, false));
}

TEST_F(TokenizerCache, ADamagedEntryIsMadeAgain) {
  const auto ids = encode().first;
  const fs::path entry = entries().at(0);
  const auto size = static_cast<std::streamoff>(fs::file_size(entry));
  for (const std::streamoff at : {std::streamoff{0}, std::streamoff{9}, std::streamoff{30},
                                  std::streamoff{4096}, std::streamoff{4200}, size / 2, size - 1}) {
    std::fstream file(entry, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const char byte = static_cast<char>(file.get() ^ 0x41);
    file.seekp(at);
    file.put(byte);
    file.close();
    EXPECT_EQ(encode(), std::pair(ids, true)) << at;
    EXPECT_EQ(encode(), std::pair(ids, false)) << at;
  }
  for (const uintmax_t left : {uintmax_t{0}, uintmax_t{10}, uintmax_t{5000}}) {
    fs::resize_file(entry, left);
    EXPECT_EQ(encode(), std::pair(ids, true)) << left;
  }
}

TEST_F(TokenizerCache, AChangedFileIsReadAgain) {
  const auto first = load_cached_tokenizer(folder_.path, true);
  EXPECT_EQ(first->eos(), -1);
  std::ofstream(fs::path(folder_.path) / "tokenizer_config.json") << R"({"eos_token": "abc"})";
  const auto second = load_cached_tokenizer(folder_.path, true);
  EXPECT_EQ(second->eos(), second->token_to_id("abc"));
  EXPECT_EQ(entries().size(), 2u);
  load_cached_tokenizer((fs::path(folder_.path) / "vocab.json").string(), false);
  EXPECT_EQ(entries().size(), 2u);  // not kept
}

}  // namespace
}  // namespace flagscale::engine
