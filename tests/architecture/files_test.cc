// Rules for single files: sizes, heavy headers, vendor libraries in their owner's place, nothing of one
// machine.

#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "tests/architecture/source_tree.h"

namespace flagscale::architecture {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostLines = 800;

TEST(Files, AreShort) {
  for (const std::string folder : {"src", "tests", "bench", "rust", "tools"})
    for (const fs::path& file : files(folder, {".h", ".cc", ".cu", ".cuh", ".rs", ".py", ".sh"})) {
      if (lines(file).size() > 1 && lines(file)[0].find("Generated") != std::string::npos) continue;
      EXPECT_LE(lines(file).size(), kMostLines) << shown(file) << " is too long: split it by what it does";
    }
}

TEST(Files, HeadersAreGuardedAndLight) {
  static const std::regex kHeavy(
      "(nlohmann/json\\.hpp|CLI/.*|simdjson.*|(one|on)?dnn.*|.*/"
      "dnnl.*|omp\\.h|spdlog/.*|regex|iostream)");
  for (const fs::path& file : files("src", {".h"})) {
    const auto text = lines(file);
    EXPECT_NE(std::find(text.begin(), text.end(), "#pragma once"), text.end()) << shown(file);
    if (file.filename().string().ends_with("_test_support.h")) continue;  // tests alone include it
    if (shown(file) == "src/chat/conversation.h")
      continue;  // keeps JSON by value; its two sources include it
    for (const std::string& line : text)
      EXPECT_FALSE(std::regex_match(included(line, false), kHeavy)) << shown(file) << ": " << line;
  }
}

// A library belongs to one folder; everyone else goes through that folder's headers. Code for GPUs is in
// files *.cu, and *.cuh that these alone include.
TEST(Files, VendorHeadersStayWithTheirOwner) {
  const std::vector<std::pair<std::regex, std::regex>> owners = {
      {std::regex("yaml\\.h"), std::regex("src/config/.*")},
      {std::regex("CLI/.*"), std::regex("src/app/.*")},
      {std::regex("(oneapi/dnnl/|dnnl).*"), std::regex("src/op/matmul/.*_onednn\\.cc|bench/.*")},
      {std::regex("simdjson.*"), std::regex("src/data/.*|src/text/.*|src/load/.*")},
      {std::regex("boost/.*"), std::regex("src/net/.*")},
      {std::regex("openssl/.*"), std::regex("src/net/.*|src/hub/digest\\.cc")},
      {std::regex("curl/.*"), std::regex("src/hub/http\\.cc")},
      {std::regex("sqlite3\\.h"), std::regex("src/launch/record/sqlite\\.cc")},
      {std::regex(".*intrin\\.h"),
       std::regex("src/kernel/.*|src/.*_(cpu|simd)\\.(cc|h)|src/text/.*|src/io/xxh64\\.cc|bench/.*")},
      {std::regex("cuda.*|cudnn.*|cublas.*|nccl.*"),
       std::regex(
           "src/(device/cuda|kernel/cuda)/.*|src/(kernel|op)/.*_cuda\\.(cu|cuh|cc|h)|src/comm/.*cuda.*")},
  };
  for (const std::string folder : {"src", "bench"})
    for (const fs::path& file : files(folder, {".h", ".cc", ".cu", ".cuh"}))
      for (const std::string& line : lines(file)) {
        const std::string header = included(line, false);
        for (const auto& [vendor, owner] : owners)
          EXPECT_FALSE(std::regex_match(header, vendor) && !std::regex_match(shown(file), owner))
              << shown(file) << " includes " << header << ", which another folder owns";
      }
}

TEST(Files, DeviceCodeIsIncludedByDeviceCodeAlone) {
  for (const fs::path& file : files("src", {".h", ".cc"}))
    for (const std::string& line : lines(file))
      EXPECT_FALSE(included(line, false).ends_with(".cuh")) << shown(file) << ": " << line;
}

TEST(Files, NoneNamesOpenMp) {
  for (const fs::path& file : files("src", {".h", ".cc"}))
    for (const std::string& line : lines(file))
      EXPECT_EQ(line.find("#pragma omp"), std::string::npos) << shown(file) << ": " << line;
}

// A source's first include is its own header, so that the header is known to stand alone.
TEST(Files, SourcesIncludeTheirOwnHeaderFirst) {
  for (const fs::path& file : files("src", {".cc"})) {
    fs::path header = file;
    header.replace_extension(".h");
    if (!fs::exists(header)) continue;
    for (const std::string& line : lines(file)) {
      const std::string first = included(line, false);
      if (first.empty()) continue;
      EXPECT_EQ(first, header.lexically_relative(source_dir() / "src").string()) << shown(file);
      break;
    }
  }
}

// Paths of one machine mean nothing on another. (Written in halves, so that this file passes.)
TEST(Files, NameNoMachine) {
  const std::vector<std::string> foreign = {std::string("/wor") + "k/", std::string("/roo") + "t/",
                                            std::string("/hom") + "e/"};
  for (const std::string folder : {"src", "tests", "bench", "rust", "tools", "docs", "examples", "cmake"})
    for (const fs::path& file :
         files(folder, {".h", ".cc", ".py", ".sh", ".md", ".yaml", ".toml", ".txt", ".cmake", ".rs"})) {
      const auto text = lines(file);
      for (size_t i = 0; i < text.size(); ++i)
        for (const std::string& path : foreign) {
          const size_t at = text[i].find(path);
          const bool starts = at != std::string::npos &&
                              (at == 0 || !std::isalnum(static_cast<unsigned char>(text[i][at - 1])));
          EXPECT_FALSE(starts) << shown(file) << ":" << i + 1 << ": " << text[i];
        }
    }
}

}  // namespace
}  // namespace flagscale::architecture
