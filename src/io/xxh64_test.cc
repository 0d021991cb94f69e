#include "io/xxh64.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/atomic_file.h"
#include "io/io_test_support.h"

namespace flagscale::io {
namespace {

std::vector<std::byte> pattern(size_t n) {
  std::vector<std::byte> data(n);
  for (size_t i = 0; i < n; ++i) data[i] = static_cast<std::byte>(i * 7 % 251);
  return data;
}

TEST(Xxh64, EqualsTheReference) {
  const auto data = pattern(1000);
  const auto cases = nlohmann::json::parse(read_file(golden("xxh64.json")));
  EXPECT_EQ(cases.size(), 24u);
  for (const auto& item : cases) {
    const uint64_t digest = xxh64(std::span(data).first(item[0]), item[1]);
    EXPECT_EQ(checksum_text(digest), "xxh64:" + item[2].get<std::string>()) << item;
  }
}

TEST(Xxh64, PiecesGiveTheSameAsTheWhole) {
  const auto data = pattern(1000);
  for (size_t step = 1; step < 70; ++step) {
    Xxh64 hash;
    for (size_t at = 0; at < data.size(); at += step)
      hash.update(std::span(data).subspan(at, std::min(step, data.size() - at)));
    EXPECT_EQ(hash.digest(), xxh64(data)) << step;
  }
}

}  // namespace
}  // namespace flagscale::io
