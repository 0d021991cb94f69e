#include "base/whole_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"

namespace flagscale {
namespace {

namespace fs = std::filesystem;

std::string text_in(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

size_t files_in(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), {}));
}

TEST(WholeFile, IsThereWithItsFolderAndNothingBeside) {
  const TemporaryFolder folder;
  const fs::path file = folder.path + "/a/b/file";
  write_whole_file(file, "one");
  write_whole_file(file, std::string_view("two\0\n", 5));
  EXPECT_EQ(text_in(file), std::string("two\0\n", 5));
  EXPECT_EQ(files_in(file.parent_path()), 1u);
}

TEST(WholeFile, WhoReadsTheOldOneReadsItToItsEnd) {
  const TemporaryFolder folder;
  const fs::path file = folder.path + "/file";
  write_whole_file(file, "the old one");
  std::ifstream reader(file);
  write_whole_file(file, "");
  std::string line;
  EXPECT_TRUE(std::getline(reader, line));
  EXPECT_EQ(line, "the old one");
}

TEST(WholeFile, WhatCannotBeWrittenIsNamedAndStaysAsItWas) {
  const TemporaryFolder folder;
  fs::create_directories(folder.path + "/file/kept");
  folder.put("plain", "text");
  for (const char* name : {"/file", "/plain/file"}) try {
      write_whole_file(folder.path + name, "text");
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kResource);
      EXPECT_NE(
          std::string(error.what()).find(folder.path + (name == std::string("/file") ? name : "/plain")),
          std::string::npos)
          << error.what();
    }
  EXPECT_TRUE(fs::exists(folder.path + "/file/kept"));
  EXPECT_EQ(files_in(folder.path), 2u);
}

}  // namespace
}  // namespace flagscale
