// Numbers of eight bits beside PyTorch's (tests/oracle/op/make_fp8.py).
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

#include "tensor/fp8.h"

namespace flagscale {
namespace {

TEST(Fp8Numbers, AreReadAndRoundedAsPyTorchDoes) {
  std::ifstream golden(FLAGSCALE_SOURCE_DIR "/tests/golden/op/fp8.txt");
  std::string kind, first, e4m3, e5m2;
  int values = 0, roundings = 0;
  while (golden >> kind >> first) {
    if (kind == "value") {
      golden >> e5m2;
      for (const auto& [format, want] : {std::pair{Fp8::kE4M3, first}, {Fp8::kE5M2, e5m2}}) {
        const float value = from_fp8(format, static_cast<uint8_t>(values));
        if (want == "nan")
          EXPECT_TRUE(std::isnan(value)) << values;
        else
          EXPECT_EQ(std::bit_cast<uint32_t>(value), std::stoul(want, nullptr, 16)) << values;
      }
      ++values;
      continue;
    }
    golden >> e4m3 >> e5m2;
    const auto x = std::bit_cast<float>(static_cast<uint32_t>(std::stoul(first, nullptr, 16)));
    EXPECT_EQ(to_fp8(Fp8::kE4M3, x), std::stoul(e4m3, nullptr, 16)) << x;
    EXPECT_EQ(to_fp8(Fp8::kE5M2, x), std::stoul(e5m2, nullptr, 16)) << x;
    ++roundings;
  }
  EXPECT_EQ(values, 256);
  EXPECT_GT(roundings, 1000);
}

TEST(Fp8Numbers, WhatIsTooLargeIsTheLargestAndNoNumberStaysNone) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const Fp8 format : {Fp8::kE4M3, Fp8::kE5M2}) {
    EXPECT_EQ(from_fp8(format, to_fp8(format, kInfinity)), largest(format));
    EXPECT_EQ(from_fp8(format, to_fp8(format, -1e30f)), -largest(format));
    EXPECT_EQ(to_fp8(format, std::numeric_limits<float>::quiet_NaN()), 0x7f);
    EXPECT_TRUE(std::isnan(from_fp8(format, 0x7f)));
  }
}

TEST(Fp8Numbers, FactorsAreTransformerEngines) {
  EXPECT_EQ(fp8_factor(Fp8::kE4M3, Fp8Scales::kTensor, 3), 448.f / 3);
  EXPECT_EQ(fp8_factor(Fp8::kE5M2, Fp8Scales::kTensor, 7), 57344.f / 7);
  EXPECT_EQ(fp8_factor(Fp8::kE4M3, Fp8Scales::kRow128, 3), 128.f);  // below 149
  EXPECT_EQ(fp8_factor(Fp8::kE4M3, Fp8Scales::kSquare128, 448), 1.f);
  EXPECT_EQ(fp8_factor(Fp8::kE4M3, Fp8Scales::kSquare128, 449), 0.5f);
  EXPECT_EQ(fp8_factor(Fp8::kE4M3, Fp8Scales::kTensor, 1e-38f), std::numeric_limits<float>::max());
  for (const float none :
       {0.f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    EXPECT_EQ(fp8_factor(Fp8::kE4M3, Fp8Scales::kTensor, none), 1.f);
}

}  // namespace
}  // namespace flagscale
