// FlagScale's Mixtral example and ours, whole but for paths and sizes.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/log.h"
#include "base/temporary_folder_test_support.h"
#include "config/compose.h"
#include "train/keys/train_keys.h"
#include "train/trainer.h"

namespace flagscale::train {
namespace {

namespace fs = std::filesystem;
using Overrides = std::vector<std::string>;
const fs::path kTree = FLAGSCALE_SOURCE_DIR;
const std::string kTokens = FLAGSCALE_SOURCE_DIR "/tests/golden/data/a";

const Overrides kSizes{"train.model.num_layers=2",
                       "train.model.hidden_size=32",
                       "train.model.ffn_hidden_size=48",
                       "train.model.num_attention_heads=4",
                       "train.model.num_query_groups=2",
                       "train.model.seq_length=16",
                       "train.model.max_position_embeddings=32",
                       "train.model.train_iters=3",
                       "train.model.global_batch_size=4",
                       "train.model.eval_iters=0"};

std::string log_of(const fs::path& folder, Overrides overrides) {
  overrides.insert(overrides.end(), kSizes.begin(), kSizes.end());
  const TrainConfig config = read_train_config(config::compose({folder.string(), "train", overrides})).config;
  TrainOptions options = train_options(config, {1000, 0});
  options.log_interval = 1;
  EXPECT_EQ(options.model.model_type, "mixtral");
  EXPECT_EQ(options.model.moe.experts, 8);
  set_log_level(LogLevel::kQuiet);
  Trainer trainer(options);
  char* buffer = nullptr;
  size_t size = 0;
  std::FILE* out = open_memstream(&buffer, &size);
  EXPECT_EQ(trainer.run(out).iteration, 3);
  std::fclose(out);
  const std::string log(buffer, size);
  std::free(buffer);
  set_log_level(LogLevel::kInfo);
  return log;
}

// Every iteration prints a loss, and the balance of its experts near 1, that of even use.
void expect_three_iterations(const std::string& log) {
  size_t at = 0;
  for (int i = 1; i <= 3; ++i) {
    at = log.find(fmt::format("iteration {:8}/{:8} |", i, 3), at);
    ASSERT_NE(at, std::string::npos) << log;
    const size_t end = log.find('\n', at);
    const std::string line = log.substr(at, end - at), label = "| load_balancing_loss: ";
    ASSERT_NE(line.find("| lm loss: "), std::string::npos) << line;
    ASSERT_NE(line.find(label), std::string::npos) << line;
    EXPECT_NEAR(std::strtod(line.c_str() + line.find(label) + label.size(), nullptr), 1, 0.3) << line;
  }
}

TEST(MixtralExample, FlagScalesTrains) {
  const fs::path theirs = kTree / "../shared/flagscale/examples/mixtral/conf";
  if (!fs::exists(theirs)) GTEST_SKIP() << "../shared is not here";
  const TemporaryFolder folder;
  expect_three_iterations(log_of(
      theirs, {"experiment.exp_dir=" + folder.path, "train.data.data_path=[" + kTokens + "]",
               "train.data.tokenizer.tokenizer_path=none", "train.system.tensor_model_parallel_size=1",
               "train.system.pipeline_model_parallel_size=1", "train.system.expert_model_parallel_size=1"}));
}

TEST(MixtralExample, OursTrain) {
  for (const char* size : {"tiny", "8x7b"}) {
    SCOPED_TRACE(size);
    const TemporaryFolder folder;
    expect_three_iterations(log_of(kTree / "examples/mixtral/conf",
                                   {std::string("train=") + size, "experiment.exp_dir=" + folder.path,
                                    "data_path=[" + kTokens + "]", "tokenizer_path=none"}));
  }
}

}  // namespace
}  // namespace flagscale::train
