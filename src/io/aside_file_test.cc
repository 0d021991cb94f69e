#include "io/aside_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "io/io_test_support.h"

namespace flagscale::io {
namespace {

TEST(AsideFile, GivesBackWhatWasWrittenAndHasNoName) {
  const TemporaryFolder folder;
  AsideFile file(folder.path);
  std::string all;
  for (int i = 0; i < 3; ++i) {
    const std::string text(100'000, static_cast<char>('a' + i));
    file.write(std::as_bytes(std::span(text)));
    all += text;
    EXPECT_EQ(file.written(), all.size());
  }
  const auto bytes = file.bytes();
  ASSERT_EQ(bytes.size(), all.size());
  EXPECT_EQ(std::memcmp(bytes.data(), all.data(), all.size()), 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path));
}

TEST(AsideFile, MayStayEmpty) {
  const TemporaryFolder folder;
  EXPECT_TRUE(AsideFile(folder.path).bytes().empty());
}

TEST(AsideFile, NamesTheFolderThatIsNotThere) {
  EXPECT_EQ(error_of([] { const AsideFile file("/nowhere"); }),
            "resource: /nowhere: cannot create a file in it: No such file or directory");
}

}  // namespace
}  // namespace flagscale::io
