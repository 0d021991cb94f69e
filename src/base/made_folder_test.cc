#include "base/made_folder.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"

namespace flagscale {
namespace {

namespace fs = std::filesystem;

TEST(MadeFolder, WhatNothingCameOfGoesAgain) {
  const TemporaryFolder folder;
  fs::create_directory(folder.path + "/there");
  {
    const MadeFolder made(folder.path + "/there/a/b/");
    EXPECT_TRUE(fs::is_directory(folder.path + "/there/a/b"));
  }
  EXPECT_TRUE(fs::is_empty(folder.path + "/there"));
  {
    const MadeFolder made(folder.path + "/there");
  }
  EXPECT_TRUE(fs::exists(folder.path + "/there"));
  {
    const MadeFolder made(folder.path + "/there/a/b");
    folder.put("there/a/mine", "");
  }
  EXPECT_TRUE(fs::exists(folder.path + "/there/a/mine"));
  EXPECT_FALSE(fs::exists(folder.path + "/there/a/b"));
  {
    MadeFolder made(folder.path + "/there/a/b");
    made.keep();
  }
  EXPECT_TRUE(fs::exists(folder.path + "/there/a/b"));
}

TEST(MadeFolder, OneThatCannotBeMadeLeavesNothing) {
  const TemporaryFolder folder;
  const std::string file = folder.put("file", "");
  EXPECT_THROW(MadeFolder(file + "/a/b"), Error);
  EXPECT_TRUE(fs::is_regular_file(file));
}

}  // namespace
}  // namespace flagscale
