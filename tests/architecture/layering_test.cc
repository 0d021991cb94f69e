// The folders of src/ against tools/layers.toml: every #include, every link, no cycle.

#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <sstream>

#include "tests/architecture/source_tree.h"

namespace flagscale::architecture {
namespace {

namespace fs = std::filesystem;

std::string folder_of(const std::string& path) { return path.substr(0, path.find('/')); }

TEST(Layering, EveryFolderIsInTheTable) {
  const auto table = layers();
  ASSERT_GT(table.size(), 10u);
  for (const auto& entry : fs::directory_iterator(source_dir() / "src")) {
    if (!entry.is_directory()) continue;
    EXPECT_TRUE(table.contains(entry.path().filename())) << entry.path().filename();
  }
}

TEST(Layering, TheTableHasNoCycle) {
  // Each row names only rows above it.
  std::set<std::string> above;
  for (const std::string& line : lines(source_dir() / "tools/layers.toml")) {
    const std::string name = line.substr(0, line.find(' '));
    const auto table = layers();
    const auto row = table.find(name);
    if (row == table.end() || line.find(" = [") == std::string::npos) continue;
    for (const std::string& below : row->second)
      EXPECT_TRUE(below == "*" || above.contains(below))
          << name << " names " << below << ", which is not above it";
    above.insert(name);
  }
}

TEST(Layering, EveryIncludeFollowsAnArrow) {
  const auto table = layers();
  int checked = 0;
  for (const fs::path& file : files("src", {".h", ".cc", ".cu", ".cuh"})) {
    const std::string folder = folder_of(file.lexically_relative(source_dir() / "src"));
    const std::set<std::string>& allowed = table.at(folder);
    for (const std::string& line : lines(file)) {
      const std::string header = included(line, true);
      if (header.empty()) continue;
      ++checked;
      EXPECT_TRUE(fs::exists(source_dir() / "src" / header))
          << shown(file) << " includes " << header << ": write the path from src/";
      const std::string target = folder_of(header);
      EXPECT_TRUE(target == folder || allowed.contains("*") || allowed.contains(target))
          << shown(file) << " includes " << header << ", but tools/layers.toml does not let " << folder
          << " see " << target;
    }
  }
  EXPECT_GT(checked, 100);
}

TEST(Layering, EveryLinkIsInTheTable) {
  static const std::regex kFolder("flagscale_folder\\((\\w+)(?: DEPS([\\w ]*?))?(?: LIBS.*)?\\)");
  const auto table = layers();
  std::set<std::string> linked;
  for (const std::string& line : lines(source_dir() / "src/CMakeLists.txt")) {
    std::smatch match;
    if (!std::regex_match(line, match, kFolder)) continue;
    std::set<std::string> deps;
    std::istringstream words(match[2].str());
    for (std::string word; words >> word;) deps.insert(word);
    ASSERT_TRUE(table.contains(match[1])) << match[1];
    EXPECT_EQ(deps, table.at(match[1])) << "src/CMakeLists.txt and tools/layers.toml differ on " << match[1];
    linked.insert(match[1]);
  }
  for (const auto& [name, below] : table) EXPECT_TRUE(name == "app" || linked.contains(name)) << name;
}

// "tensor/    DType, Shape -> device": base is in every row but its own.
TEST(Layering, ThePageShowsTheTable) {
  static const std::regex kRow("(\\w+)/ +.* -> ([\\w, ]+)");
  std::map<std::string, std::set<std::string>> shown_rows;
  for (const std::string& line : lines(source_dir() / "docs/architecture.md")) {
    std::smatch match;
    if (!std::regex_match(line, match, kRow)) continue;
    std::set<std::string>& row = shown_rows[match[1]];
    std::string names = match[2].str();
    std::replace(names.begin(), names.end(), ',', ' ');
    std::istringstream words(names);
    for (std::string word; words >> word;) row.insert(word == "any" ? "*" : word);
    if (row.erase("std") == 0 && !row.contains("*")) row.insert("base");
  }
  EXPECT_EQ(shown_rows, layers());
}

}  // namespace
}  // namespace flagscale::architecture
