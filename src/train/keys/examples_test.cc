// FlagScale's examples and ours, whole but for paths and sizes, trained for some iterations.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "base/log.h"
#include "base/temporary_folder_test_support.h"
#include "config/compose.h"
#include "train/keys/train_keys.h"
#include "train/run_test_support.h"

namespace flagscale::train::examples {
namespace {

namespace fs = std::filesystem;
using Overrides = std::vector<std::string>;
const fs::path kSource = FLAGSCALE_SOURCE_DIR;
const std::string kTokens = FLAGSCALE_SOURCE_DIR "/tests/golden/data/a";

// ++: not every file says each.
const Overrides kSizes{"++train.model.num_layers=2",
                       "++train.model.hidden_size=32",
                       "++train.model.ffn_hidden_size=48",
                       "++train.model.num_attention_heads=4",
                       "++train.model.num_query_groups=2",
                       "++train.model.seq_length=16",
                       "++train.model.max_position_embeddings=32",
                       "++train.model.global_batch_size=4",
                       "++train.data.tokenizer.vocab_size=1000"};
const Overrides kOneRank{"++train.system.tensor_model_parallel_size=1",
                         "++train.system.pipeline_model_parallel_size=1",
                         "++train.system.expert_model_parallel_size=1"};

struct Example {
  const char *name, *size;
  const char* model_type;
  Overrides more;  // sizes, and paths that are not
};

struct Trained {
  TrainOptions options;
  std::string log;
};

Trained train(const fs::path& folder, Overrides overrides) {
  overrides.insert(overrides.end(), kSizes.begin(), kSizes.end());
  const TrainConfig config = read_train_config(config::compose({folder.string(), "train", overrides})).config;
  Trained result{train_options(config, {1000, 0}), {}};
  result.options.log_interval = 1;
  set_log_level(LogLevel::kQuiet);
  Trainer trainer(result.options);
  auto [ended, log] = testing::run_printed(trainer);
  EXPECT_EQ(ended.iteration, 3);
  result.log = std::move(log);
  set_log_level(LogLevel::kInfo);
  return result;
}

// Every iteration prints a loss, and of a mixture the balance of its experts near 1, that of even use.
void expect_three_iterations(const Trained& run) {
  const std::string& log = run.log;
  size_t at = 0;
  for (int i = 1; i <= 3; ++i) {
    at = log.find(fmt::format("iteration {:8}/{:8} |", i, 3), at);
    ASSERT_NE(at, std::string::npos) << log;
    const size_t end = log.find('\n', at);
    const std::string line = log.substr(at, end - at), label = "| load_balancing_loss: ";
    const std::string loss = "| lm loss: ";
    ASSERT_NE(line.find(loss), std::string::npos) << line;
    EXPECT_NEAR(std::strtod(line.c_str() + line.find(loss) + loss.size(), nullptr), std::log(1000.0), 0.5)
        << line;
    if (run.options.model.moe.experts == 0) continue;
    ASSERT_NE(line.find(label), std::string::npos) << line;
    EXPECT_NEAR(std::strtod(line.c_str() + line.find(label) + label.size(), nullptr), 1, 0.3) << line;
  }
}

class FlagScalesExamples : public ::testing::TestWithParam<Example> {};

TEST_P(FlagScalesExamples, Train) {
  const Example& example = GetParam();
  const fs::path theirs = kSource / "../shared/flagscale/examples" / example.name / "conf";
  if (!fs::exists(theirs)) GTEST_SKIP() << "../shared is not here";
  const TemporaryFolder folder;
  Overrides overrides{std::string("train=") + example.size, "experiment.exp_dir=" + folder.path,
                      "train.data.data_path=[" + kTokens + "]", "train.data.tokenizer.tokenizer_path=none"};
  overrides.insert(overrides.end(), kOneRank.begin(), kOneRank.end());
  overrides.insert(overrides.end(), example.more.begin(), example.more.end());
  const Trained run = train(theirs, overrides);
  EXPECT_EQ(run.options.model.model_type, example.model_type);
  expect_three_iterations(run);
}

Overrides operator+(Overrides a, const Overrides& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
const Overrides kIterations{"train.model.train_iters=3"}, kSamples{"train.model.train_samples=12"};
const Overrides kWarmup{"train.model.optimizer.lr_scheduler.lr_warmup_samples=4"};
const std::string kWsd = "train.model.optimizer.lr_scheduler.lr_wsd_decay_";
const Overrides kNothingToLoad{"train.system.checkpoint.load=null"};
const Overrides kFewExperts{"train.model.num_experts=8", "train.model.moe_router_topk=2",
                            "train.model.moe_ffn_hidden_size=24"};
const auto by_name = [](const auto& test) { return std::string(test.param.name) + "_" + test.param.size; };

INSTANTIATE_TEST_SUITE_P(
    All, FlagScalesExamples,
    ::testing::Values(Example{"mixtral", "8x7b", "mixtral", kIterations},
                      Example{"qwen2_5", "1_5b", "qwen2",
                              kSamples + kWarmup + kNothingToLoad +
                                  Overrides{"train.system.checkpoint.ckpt_convert_save=null"}},
                      Example{"qwen3", "0_6b", "qwen3", kSamples + kWarmup},
                      Example{"qwen3", "14b", "qwen3", kSamples + kWarmup + Overrides{kWsd + "samples=4"}},
                      Example{"qwen3", "32b", "qwen3", kIterations + Overrides{kWsd + "iters=1"}},
                      Example{"qwen3", "30b_a3b", "qwen3_moe",
                              kIterations + kFewExperts + Overrides{kWsd + "iters=1"}},
                      Example{"llama3", "8b", "llama", kSamples + kNothingToLoad},
                      Example{"llama3", "70b", "llama", kSamples + kWarmup}),
    by_name);

class OurExamples : public ::testing::TestWithParam<Example> {};

TEST_P(OurExamples, Train) {
  const Example& example = GetParam();
  const TemporaryFolder folder;
  const Trained run =
      train(kSource / "examples" / example.name / "conf",
            Overrides{std::string("train=") + example.size, "experiment.exp_dir=" + folder.path,
                      "data_path=[" + kTokens + "]", "tokenizer_path=none", "train.model.train_iters=3"} +
                example.more);
  EXPECT_EQ(run.options.model.model_type, example.model_type);
  expect_three_iterations(run);
}

INSTANTIATE_TEST_SUITE_P(
    All, OurExamples,
    ::testing::Values(Example{"mixtral", "tiny", "mixtral", {}}, Example{"mixtral", "8x7b", "mixtral", {}},
                      Example{"qwen2_5", "tiny", "qwen2", {}}, Example{"qwen2_5", "1_5b", "qwen2", {}},
                      Example{"qwen3", "tiny", "qwen3", {}}, Example{"qwen3", "0_6b", "qwen3", {}},
                      Example{"llama3", "tiny", "llama", {}}, Example{"llama3", "8b", "llama", {}},
                      Example{"llama3", "8b_bf16", "llama", {}},
                      Example{"llama3", "1b_fp8", "llama", {"train.model.micro_batch_size=2"}}),
    by_name);

}  // namespace
}  // namespace flagscale::train::examples
