// The objects of one instruction set share no function with the rest of the program: the linker keeps one
// copy of a weak function, and if that is the AVX-512 copy, every caller on an older processor dies of an
// illegal instruction.

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <regex>

#include "tests/architecture/source_tree.h"

namespace flagscale::architecture {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> output_of(const std::string& command) {
  std::vector<std::string> result;
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return result;
  std::array<char, 8192> line;
  while (std::fgets(line.data(), line.size(), pipe)) result.emplace_back(line.data());
  pclose(pipe);
  return result;
}

TEST(Symbols, NoSharedFunctionIsCompiledForOneInstructionSet) {
#ifdef FLAGSCALE_SANITIZED
  GTEST_SKIP() << "a sanitizer's build keeps every inline function out of line";
#endif
  static const std::regex kWeakFunction(
      "[0-9a-f]+ W (.*)\n");  // data symbols are V and u: no instructions in them
  int objects = 0;
  for (const std::string isa : {"scalar", "avx2", "avx512", "avx512bf16"})
    for (auto it = fs::recursive_directory_iterator(FLAGSCALE_BINARY_DIR "/src");
         it != fs::recursive_directory_iterator(); ++it) {
      const std::string path = it->path();
      if (!path.ends_with(".o") || path.find("_" + isa + ".dir/") == std::string::npos) continue;
      ++objects;
      for (const std::string& line : output_of("nm -C '" + path + "'")) {
        std::smatch match;
        if (!std::regex_match(line, match, kWeakFunction)) continue;
        EXPECT_NE(match[1].str().find("::" + isa + "::"), std::string::npos)
            << it->path().filename() << " for " << isa << " has the shared function " << match[1];
      }
    }
  EXPECT_GT(objects, 8) << "no kernel objects found: has cmake/folder.cmake changed their names?";
}

}  // namespace
}  // namespace flagscale::architecture
