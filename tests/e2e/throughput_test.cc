// `flagscale bench throughput` with tiny models.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/temporary_folder_test_support.h"
#include "tests/e2e/program.h"

namespace flagscale::e2e {
namespace {

using nlohmann::json;
using Words = std::vector<std::string>;

const std::string kGolden = FLAGSCALE_SOURCE_DIR "/tests/golden/";

// 64 positions, and no tokenizer.
Words throughput(const Words& more) {
  Words words{"bench",        "throughput", kGolden + "model/llama3", "--device",    "cpu",
              "--threads",    "1",          "--no-weight-cache",      "--input-len", "24",
              "--output-len", "8"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST(BenchThroughput, CountsWhatItServes) {
  const Result result = run(
      throughput({"--num-prompts", "30", "--max-num-seqs", "8", "--max-num-batched-tokens", "64", "--json"}));
  ASSERT_EQ(result.code, 0) << result.err;
  const json got = json::parse(result.out);
  EXPECT_EQ(got["num_requests"], 30);
  EXPECT_EQ(got["total_num_tokens"], 30 * 32);
  EXPECT_EQ(got["output_tokens"], 30 * 8);
  EXPECT_EQ(got["max_num_batched_tokens"], 64);
  EXPECT_EQ(got["with_prompts"]["tokens"].get<int>() + got["decode"]["tokens"].get<int>(), 30 * 31);
  const double seconds = got["elapsed_time"];
  EXPECT_NEAR(got["output_tokens_per_second"].get<double>(), 240 / seconds, 1e-6);
  EXPECT_NEAR(got["tokens_per_second"].get<double>(), 960 / seconds, 1e-6);
  EXPECT_LE(got["with_prompts"]["steps"].get<int>() + got["decode"]["steps"].get<int>(), 30 * 32);
  const json alone = json::parse(
      run(throughput({"--num-prompts", "3", "--max-concurrency", "1", "--disable-tqdm", "--json"})).out);
  EXPECT_EQ(alone["with_prompts"]["steps"], 3) << "the next begins when one ends";
  EXPECT_EQ(alone["decode"]["steps"], 3 * 7);
}

TEST(BenchThroughput, PrintsWhatVllmPrints) {
  const Result result =
      run(throughput({"--num-prompts", "4", "--temperature", "0", "--disable-tqdm", "--quantization", "int8",
                      "--quantize-lm-head", "--kv-cache-dtype", "int8"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_TRUE(result.out.starts_with("Throughput: ")) << result.out;
  for (const char* part : {" requests/s, ", " total tokens/s, ", " output tokens/s\n",
                           "Total num prompt tokens:  96\n", "Total num output tokens:  32\n"})
    EXPECT_NE(result.out.find(part), std::string::npos) << part << result.out;
}

TEST(BenchThroughput, ServesAnAdapter) {
  const Words words{"bench",
                    "throughput",
                    kGolden + "model/qwen3",
                    "--device",
                    "cpu",
                    "--input-len",
                    "24",
                    "--output-len",
                    "8",
                    "--num-prompts",
                    "4",
                    "--json",
                    "--no-weight-cache",
                    "--disable-tqdm"};
  Words adapted = words;
  adapted.insert(adapted.end(), {"--lora", kGolden + "lora/zero"});
  const Result result = run(adapted);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json::parse(result.out)["output_tokens"], 32);
  adapted.back() = kGolden + "lora/none";
  EXPECT_NE(run(adapted).err.find("lora/none"), std::string::npos);
}

TEST(BenchThroughput, NamesTheFlagThatDoesNotFit) {
  for (const auto& [more, code, says] : std::vector<std::tuple<Words, int, std::string>>{
           {{"--output-len", "60"}, 2, "--input-len 24 and --output-len 60 are 84 tokens, the model has 64"},
           {{"--max-model-len", "31"}, 2, "are 32 tokens, --max-model-len is 31"},
           {{"--num-prompts", "0"}, 2, "--num-prompts: '0' is not a whole number from 1"},
           {{"--max-num-batched-tokens", "16777216", "--max-num-seqs", "1048576", "--kv-cache-dtype",
             "float32", "--gpu-memory-utilization", "0.9"},
            3,
            "--max-num-seqs 1048576, --max-num-batched-tokens 16777216, sequences of 32 tokens: the model "
            "needs"}}) {
    Words words = throughput({});
    for (size_t i = 0; i < more.size(); i += 2) {
      const auto given = std::find(words.begin(), words.end(), more[i]);
      if (given != words.end())
        *(given + 1) = more[i + 1];
      else
        words.insert(words.end(), {more[i], more[i + 1]});
    }
    const Result result = run(words);
    EXPECT_EQ(result.code, code) << says << result.err;
    EXPECT_NE(result.err.find(says), std::string::npos) << result.err;
  }
}

TEST(BenchThroughput, TellsWhatItHasMeasuredWhereItIsStopped) {
  const TemporaryFolder folder;
  std::string words = "flagscale";
  for (const std::string& word : throughput({"--num-prompts", "1000000", "--max-concurrency", "8"}))
    words += " " + word;
  const Result result =
      shell(words +
                " >out 2>err & p=$!\n"
                "until grep -q 'output tokens/s' err || ! kill -0 $p; do sleep 0.02; done; kill -INT $p; "
                "wait $p; echo code $?; cat out err",
            folder.path);
  EXPECT_NE(result.out.find("code 130"), std::string::npos) << result.out << result.err;
  EXPECT_NE(result.out.find(" of 1000000 requests:\nThroughput: "), std::string::npos) << result.out;
}

}  // namespace
}  // namespace flagscale::e2e
