#include "engine/team_worth.h"

#include <gtest/gtest.h>

namespace flagscale::engine {
namespace {

model::DecoderConfig shape(int layers, int hidden, int heads, int64_t vocab) {
  model::DecoderConfig config;
  config.num_layers = layers, config.hidden_size = hidden, config.num_heads = heads;
  config.head_dim = hidden / heads, config.vocab_size = vocab;
  return config;
}

TEST(TeamWorth, ASingleTokenOfA135MModelIs) {
  const model::DecoderConfig config = shape(30, 576, 9, 49'152);
  const WeightUse use{.bytes = 143'000'000, .read_bytes = 143'000'000, .matrix_elements = 106e6};
  EXPECT_TRUE(worth_a_team({1, 1, 1}, use, config, 330));
  EXPECT_TRUE(worth_a_team({32, 32, 32 * 512}, use, config, 330));
}

TEST(TeamWorth, FewTokensOfATinyModelAreNotAndItsLongPromptsAre) {
  const model::DecoderConfig config = shape(1, 32, 2, 512);
  const WeightUse use{.bytes = 100'000, .read_bytes = 100'000, .matrix_elements = 10e3};
  EXPECT_FALSE(worth_a_team({8, 8, 8 * 512}, use, config, 14));
  EXPECT_TRUE(worth_a_team({256, 64, 256 * 2048}, use, config, 14));
}

}  // namespace
}  // namespace flagscale::engine
