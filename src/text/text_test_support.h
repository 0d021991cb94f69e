#pragma once
// Golden files of tests/golden/text.

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

namespace flagscale::text::testing {

using Json = nlohmann::json;

inline std::string golden(const std::string& name) {
  return std::string(FLAGSCALE_SOURCE_DIR "/tests/golden/text/") + name;
}

inline std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace flagscale::text::testing
