#include "engine/logits_scan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace flagscale::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> row(size_t size) {
  std::mt19937 random(static_cast<unsigned>(size));
  std::normal_distribution<float> normal(0, 8);
  std::vector<float> x(size);
  for (float& value : x) value = random() % 11 == 0 ? -kInfinity : normal(random);
  x[size / 2] = 3;
  return x;
}

TEST(LogitsScan, EverySetFindsWhatALoopFinds) {
  for (const Isa isa : runnable_isas())
    for (const size_t size : {1u, 15u, 16u, 63u, 64u, 65u, 200u, 4096u, 4097u, 49152u}) {
      SCOPED_TRACE(std::string(name(isa)) + " " + std::to_string(size));
      const std::vector<float> x = row(size);
      std::vector<float> maxima((size + kLogitBlock - 1) / kLogitBlock), weights(size);
      const float top = *std::ranges::max_element(x);
      EXPECT_EQ(logits_scan(isa).blocks(x.data(), static_cast<int64_t>(size), maxima.data()), top);
      for (size_t b = 0; b < maxima.size(); ++b)
        EXPECT_EQ(maxima[b],
                  *std::max_element(x.begin() + static_cast<int64_t>(b) * kLogitBlock,
                                    x.begin() + static_cast<int64_t>(std::min(size, (b + 1) * kLogitBlock))));
      const float scale = 1.3f;
      const double total =
          logits_scan(isa).exponents(x.data(), static_cast<int64_t>(size), top, scale, weights.data());
      double sum = 0;
      for (size_t i = 0; i < size; ++i) {
        const double exact = std::exp(static_cast<double>((x[i] - top) * scale));
        sum += exact;
        EXPECT_NEAR(weights[i], exact, 1e-6 * exact + 1e-37);
        EXPECT_TRUE(x[i] > -kInfinity || weights[i] == 0);
      }
      EXPECT_NEAR(total, sum, 1e-5 * sum);
      EXPECT_EQ(logits_scan(isa).exponents(x.data(), static_cast<int64_t>(size), top, scale, nullptr), total);
    }
}

TEST(LogitsScan, EverySetSeesWhatIsNotANumber) {
  for (const Isa isa : runnable_isas())
    for (const float bad : {kInfinity, std::numeric_limits<float>::quiet_NaN()})
      for (size_t at = 0; at < 151; ++at) {
        std::vector<float> x = row(151), maxima(3);
        x[at] = bad;
        EXPECT_TRUE(std::isnan(logits_scan(isa).blocks(x.data(), 151, maxima.data()))) << name(isa) << at;
      }
  for (const Isa isa : runnable_isas()) {
    std::vector<float> x(151, -kInfinity), maxima(3);
    EXPECT_EQ(logits_scan(isa).blocks(x.data(), 151, maxima.data()), -kInfinity);
  }
}

}  // namespace
}  // namespace flagscale::engine
