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

}  // namespace
}  // namespace flagscale
