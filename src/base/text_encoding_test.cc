#include "base/text_encoding.h"

#include <gtest/gtest.h>

#include "base/temporary_folder_test_support.h"

namespace flagscale {
namespace {

std::string said_of(const std::string& text, const std::string& name) {
  const TemporaryFolder folder;
  const std::string file = folder.put(name, text);
  try {
    refuse_file_of_other_encoding(file);
  } catch (const Error& error) {
    const std::string said = error.what();
    return said.starts_with(file) ? said.substr(folder.path.size() + 1) : said;
  }
  return "";
}

TEST(TextEncoding, IsNamedWithTheWayOutOfIt) {
  for (const auto& [mark, name] : {std::pair{std::string("\xff\xfe{\0", 4), "UTF-16LE"},
                                   {std::string("\xfe\xff\0{", 4), "UTF-16BE"},
                                   {std::string("\xff\xfe\0\0{\0\0\0", 8), "UTF-32LE"},
                                   {std::string("\0\0\xfe\xff\0\0\0{", 8), "UTF-32BE"}}) {
    const std::string said = said_of(mark, "a.json");
    EXPECT_TRUE(said.starts_with(std::string("a.json is ") + name + ": save it as UTF-8 (`iconv -f " +
                                 std::string(name).substr(0, 6) + " -t UTF-8 /"))
        << said;
  }
  EXPECT_NE(said_of("\xff\xfe", "it's.json").find("it'\\''s.json' > NEW"), std::string::npos);
  for (const char* text : {"", "{", "\xef\xbb\xbf{}", "\xff", "{\"a\": 1}"})
    EXPECT_EQ(said_of(text, "a"), "");
}

// As iconv writes it.
std::string wide(std::u32string_view text, size_t bytes, bool big) {
  std::string result;
  for (const char32_t c : text)
    for (size_t i = 0; i < bytes; ++i)
      result += static_cast<char>(c >> (8 * (big ? bytes - 1 - i : i)) & 0xff);
  return result;
}

TEST(TextEncoding, IsToldWithoutAMarkByItsNulBytes) {
  for (const std::u32string_view text : {U"In the beginning was the word.\n", U"В начале было Слово\n"})
    for (const auto& [bytes, big, name] : {std::tuple{size_t{2}, false, "UTF-16LE"},
                                           {size_t{2}, true, "UTF-16BE"},
                                           {size_t{4}, false, "UTF-32LE"},
                                           {size_t{4}, true, "UTF-32BE"}}) {
      const std::string said = said_of(wide(text, bytes, big), "a.txt");
      EXPECT_TRUE(said.starts_with(std::string("a.txt holds NUL bytes: it is likely ") + name +
                                   " without a byte-order mark; save it as UTF-8 (`iconv -f " + name + " -t"))
          << said;
    }
  std::string stray(4000, 'x');
  stray[1000] = '\0';
  EXPECT_EQ(said_of(stray, "a.txt"), "a.txt holds NUL bytes: it is no text, or a damaged one");
  EXPECT_EQ(said_of(std::string(5000, 'x') + '\0', "a.txt"), "");
  for (const char* magic : {"PAR1", "\x1f\x8b", "\x28\xb5\x2f\xfd"})
    EXPECT_EQ(said_of(magic + std::string(9, '\0'), "a"), "");
}

}  // namespace
}  // namespace flagscale
