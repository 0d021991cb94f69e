// The whole program beside a driver whose GPU computes nothing (fake_driver.c), built with kernels or
// without.

#include "tests/e2e/program.h"

#include <gtest/gtest.h>

#include "base/temporary_folder_test_support.h"

namespace flagscale::e2e {
namespace {

constexpr const char* kModel = FLAGSCALE_SOURCE_DIR "/tests/golden/model/llama3";
constexpr const char* kTokenizer = FLAGSCALE_SOURCE_DIR "/tests/golden/text/llama3.json";

Result beside(const std::vector<std::string>& fake, const std::vector<std::string>& words) {
  Setting setting;
  setting.environment = fake;
  setting.environment.emplace_back("LD_LIBRARY_PATH=" FLAGSCALE_FAKE_DRIVER);
  return run(words, setting);
}

size_t times(const std::string& text, const std::string& words) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(words, at)) != std::string::npos; ++at) ++count;
  return count;
}

bool built() {
  static const Result refused =
      beside({"FAKE_FREE_MIB=1"}, {"bench", "train", "--shape", "15m", "--device", "cuda"});
  return refused.err.find("run ./dev cuda") == std::string::npos;
}

TEST(Beside, WithoutKernelsItSaysOnceHowToGetThem) {
  if (built()) GTEST_SKIP() << "this program has kernels";
  const Result refused = beside({}, {"serve", kModel, "--device", "cuda"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_NE(refused.err.find(
                "a GPU is here (Fake), but this program was built without its kernels: run ./dev cuda"),
            std::string::npos)
      << refused.err;
  // It goes on to what the cache lacks.
  const Result chosen = beside({}, {"serve", kModel, "--tokenizer", kTokenizer, "--num-kv-blocks", "1"});
  EXPECT_EQ(chosen.code, 2);
  EXPECT_NE(chosen.err.find("16 tokens, fewer than"), std::string::npos) << chosen.err;
  EXPECT_EQ(times(chosen.err, "run ./dev cuda"), 1u) << chosen.err;
}

TEST(Beside, AServerWhoseGpuDoesNotComputeIsNeverReady) {
  if (!built()) GTEST_SKIP() << "this program has no kernels";
  const Result result = beside({}, {"serve", kModel, "--tokenizer", kTokenizer, "--port", "0"});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("`dmesg | grep -i xid`"), std::string::npos) << result.err;
}

Result plan_beside(const std::vector<std::string>& fake, const std::vector<std::string>& overrides) {
  std::vector<std::string> words{
      "run",           "--config-path", FLAGSCALE_SOURCE_DIR "/examples/speed/conf", "--config-name", "train",
      "action=dryrun", "data_path=none"};
  words.insert(words.end(), overrides.begin(), overrides.end());
  return beside(fake, words);
}

// States in main memory shut out states in bf16, which take less.
TEST(Beside, APlanThatDoesNotFitNamesChangesThatSuffice) {
  if (!built()) GTEST_SKIP() << "this program has no kernels";
  std::vector<std::string> words{"train=8b"};
  for (const char* key : {"main_params_dtype", "main_grads_dtype", "exp_avg_dtype", "exp_avg_sq_dtype"})
    words.push_back(std::string("train.model.optimizer.") + key + "=fp32");
  const Result plan = plan_beside({"FAKE_FREE_MIB=70000"}, words);
  EXPECT_EQ(plan.code, 3) << plan.out << plan.err;
  EXPECT_NE(plan.err.find("\n  together they suffice: "), std::string::npos) << plan.err;
  EXPECT_EQ(plan.err.find("train a smaller model"), std::string::npos) << plan.err;
}

// With three of the four states in fp32, which is what else there is to change.
TEST(Beside, APlanWithSomeStatesInBf16IsOfferedTheOthers) {
  if (!built()) GTEST_SKIP() << "this program has no kernels";
  const Result plan = plan_beside({"FAKE_FREE_MIB=79000"}, {"train=8b_fp32"});
  EXPECT_EQ(plan.code, 3) << plan.out << plan.err;
  const size_t keys = plan.err.find("main_params_dtype=bf16 ++train.model.optimizer.exp_avg_dtype=bf16 ");
  EXPECT_NE(keys, std::string::npos) << plan.err;
  EXPECT_EQ(plan.err.find("train a smaller model"), std::string::npos) << plan.err;
}

// The driver's part is left free.
TEST(Beside, APlanLeavesTheDriverItsPart) {
  if (!built()) GTEST_SKIP() << "this program has no kernels";
  const Result plan = plan_beside({"FAKE_FREE_MIB=79000"}, {"train=124m", "--json"});
  ASSERT_EQ(plan.code, 0) << plan.err;
  const size_t at = plan.out.find("\"total\":");
  ASSERT_NE(at, std::string::npos) << plan.out;
  const long total = std::stol(plan.out.substr(at + 8)) >> 20;
  const Result full = plan_beside({"FAKE_FREE_MIB=" + std::to_string(total + 400)}, {"train=124m"});
  EXPECT_EQ(full.code, 3) << full.out << full.err;
  EXPECT_NE(full.err.find(" free, of which 0.5 GiB are left to its driver"), std::string::npos) << full.err;
  EXPECT_EQ(plan_beside({"FAKE_FREE_MIB=" + std::to_string(total + 600)}, {"train=124m"}).code, 0);
}

// As it would be served: on the fake GPU, or without kernels on the CPU.
TEST(Beside, ADryRunOfAServerPlansItsMemory) {
  const TemporaryFolder folder;
  folder.put("serve.yaml", std::string("experiment: {exp_dir: out, task: {type: serve}}\n"
                                       "serve: [{serve_id: m, engine_args: {model: ") +
                               kModel + ", tokenizer: " + kTokenizer + ", max_num_seqs: 4}}]\n");
  const auto plan = [&](const std::string& free, const std::vector<std::string>& more) {
    std::vector<std::string> words{"run",           "--config-path", folder.path,
                                   "--config-name", "serve",         "action=dryrun"};
    words.insert(words.end(), more.begin(), more.end());
    return beside({"FAKE_FREE_MIB=" + free}, words);
  };
  const Result fits = plan("80000", {});
  EXPECT_EQ(fits.code, 0) << fits.err;
  EXPECT_NE(fits.out.find("MiB for weights, a step and a cache of 256 tokens, "), std::string::npos)
      << fits.out;
  EXPECT_NE(fits.out.find(built() ? "the GPU has 78.1 GiB free" : "this machine has "), std::string::npos)
      << fits.out;
  EXPECT_NE(plan("80000", {"--json"}).out.find("\"cache_tokens\":256"), std::string::npos);
  const Result large = plan("80000", {"++serve.0.engine_args.num_kv_blocks=100000000"});
  EXPECT_EQ(large.code, 3) << large.out << large.err;
  EXPECT_NE(large.err.find("too little; lower num_kv_blocks"), std::string::npos) << large.err;
  if (!built()) return;
  const Result full = plan("8300", {});
  EXPECT_EQ(full.code, 3) << full.out << full.err;
  EXPECT_NE(full.err.find("; raise gpu_memory_utilization to 0.91"), std::string::npos) << full.err;
}

TEST(Beside, AModelThatDoesNotFitNamesOptionsOfItsCommand) {
  if (!built()) GTEST_SKIP() << "this program has no kernels";
  const auto refusal = [](const std::vector<std::string>& words) {
    const Result result = beside({"FAKE_FREE_MIB=1"}, words);
    EXPECT_EQ(result.code, 3) << result.err;
    return result.err;
  };
  const std::string bench = refusal({"bench", "decode", kModel, "--device", "cuda"});
  EXPECT_NE(bench.find("; lower --streams, --depth or --prompt-tokens, or take"), std::string::npos) << bench;
  const std::string serve = refusal({"serve", kModel, "--tokenizer", kTokenizer, "--num-kv-blocks", "9000"});
  EXPECT_NE(serve.find("; lower num_kv_blocks or max_num_batched_tokens, or take"), std::string::npos)
      << serve;
}

TEST(Beside, RanksThatShareAGpuAreToldSoInAPlan) {
  if (!built()) GTEST_SKIP() << "this program has no kernels";
  const std::vector<std::string> two{"train=1b", "train.model.global_batch_size=16",
                                     "++experiment.runner.nproc_per_node=2"};
  const Result shared = plan_beside({}, two);
  EXPECT_EQ(shared.code, 0) << shared.err;
  EXPECT_NE(shared.err.find("2 ranks share a GPU here, which has 40.0 GiB free for each"), std::string::npos)
      << shared.err;
  EXPECT_EQ(plan_beside({"FAKE_GPUS=2"}, two).err.find(" share "), std::string::npos);
  const Result refused = plan_beside({"FAKE_FREE_MIB=60000"}, two);
  EXPECT_EQ(refused.code, 3);
  EXPECT_NE(refused.err.find("the GPU has 29.3 GiB free for each rank"), std::string::npos) << refused.err;
}

// What cannot lie in main memory is not among what would help, and is no mistake of who did not ask for it.
TEST(Beside, APlanOfAnyOptimizerThatDoesNotFitSaysWhatWould) {
  if (!built()) GTEST_SKIP() << "this program has no kernels";
  for (const char* optimizer : {"adam", "lion", "adamw8bit", "adafactor", "muon"}) {
    const Result refused =
        plan_beside({"FAKE_FREE_MIB=6000"},
                    {"train=124m", std::string("++train.model.optimizer.optimizer=") + optimizer});
    EXPECT_EQ(refused.code, 3) << optimizer << ": " << refused.err;
    EXPECT_NE(refused.err.find(" saves "), std::string::npos) << optimizer << ": " << refused.err;
  }
}

TEST(Beside, TrainingAsksForCublasBeforeItTakesAnything) {
  if (!built()) GTEST_SKIP() << "this program has no kernels";
  const Result result = beside({"FAKE_FREE_MIB=1", "FLAGSCALE_CUBLAS=/nowhere/libcublasLt.so.13"},
                               {"bench", "train", "--shape", "15m"});
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("cuBLASLt is not found: /nowhere/libcublasLt.so.13"), std::string::npos)
      << result.err;
  EXPECT_NE(result.err.find("pip install nvidia-cublas"), std::string::npos) << result.err;
}

TEST(Beside, CublasBeforeCuda12Point9IsRefused) {
  if (!built()) GTEST_SKIP() << "this program has no kernels";
  const Result result = beside({"FLAGSCALE_CUBLAS=" FLAGSCALE_FAKE_CUBLAS "/libcublasLt.so.12"},
                               {"bench", "train", "--shape", "15m", "--device", "cuda"});
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("libcublasLt.so.12 is 12.8; install cuBLAS of CUDA 12.9 or newer"),
            std::string::npos)
      << result.err;
}

}  // namespace
}  // namespace flagscale::e2e
