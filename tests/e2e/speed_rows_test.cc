// The rows of docs/performance.md's table: their YAMLs in examples/speed plan as what they are said to be,
// and `flagscale bench rows` runs them.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/temporary_folder_test_support.h"
#include "tests/e2e/program.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Words = std::vector<std::string>;

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// LLaMA-3-8B's folder, whose 16 GB of weights are a hole in a file.
void write_llama_8b(const fs::path& folder) {
  fs::create_directories(folder);
  std::ofstream(folder / "config.json")
      << R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
  "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
  "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "max_position_embeddings": 8192,
  "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16"})";
  json header;
  int64_t at = 0;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
    int64_t bytes = 2;
    for (const int64_t n : shape) bytes *= n;
    header[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {at, at + bytes}}};
    at += bytes;
  };
  for (const char* ends : {"model.embed_tokens.weight", "lm_head.weight"}) add(ends, {128256, 4096});
  add("model.norm.weight", {4096});
  for (int i = 0; i < 32; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
      add(layer + norm + ".weight", {4096});
    for (const char* square : {"q_proj", "o_proj"})
      add(layer + "self_attn." + square + ".weight", {4096, 4096});
    for (const char* narrow : {"k_proj", "v_proj"})
      add(layer + "self_attn." + narrow + ".weight", {1024, 4096});
    for (const char* wide : {"gate_proj", "up_proj"}) add(layer + "mlp." + wide + ".weight", {14336, 4096});
    add(layer + "mlp.down_proj.weight", {4096, 14336});
  }
  const std::string text = header.dump();
  const auto size = static_cast<uint64_t>(text.size());
  std::ofstream file(folder / "model.safetensors", std::ios::binary);
  file.write(reinterpret_cast<const char*>(&size), sizeof size);
  file << text;
  file.close();
  fs::resize_file(folder / "model.safetensors", sizeof size + size + static_cast<uint64_t>(at));
}

struct PlannedRow {
  const char *name, *file;  // of examples/speed/conf
  Words overrides;
  const char *batch, *plan;  // what a dry run says
};

class SpeedRows : public ::testing::TestWithParam<PlannedRow> {};

TEST_P(SpeedRows, PlanAsTheyAreSaidToBe) {
  const PlannedRow& row = GetParam();
  const TemporaryFolder folder;
  Words words{"run",           "--config-path", FLAGSCALE_SOURCE_DIR "/examples/speed/conf",
              "--config-name", row.file,        "action=dryrun"};
  if (std::string(row.file) == "train") words.push_back("data_path=none");
  if (std::string(row.name).starts_with("lora")) {
    write_llama_8b(folder.path + "/model");
    words.push_back("++train.system.checkpoint.pretrained_checkpoint=" + folder.path + "/model");
  }
  const Result plan = run(words + row.overrides, folder.path);
  const size_t lacks = plan.err.find("training needs "), end = plan.err.find('(', lacks);
  const std::string why = lacks == std::string::npos ? "" : plan.err.substr(lacks, end - lacks);
  if (!why.empty() && plan.out.empty()) GTEST_SKIP() << "not planned to the end: " << why;
  EXPECT_NE(plan.out.find(row.batch), std::string::npos) << plan.out << plan.err;
  EXPECT_NE(plan.out.find(row.plan), std::string::npos) << plan.out;
  if (!why.empty()) GTEST_SKIP() << "planned, and refused since " << why;
  EXPECT_EQ(plan.code, 0) << plan.err;
  const bool warned = plan.err.find("there is no outputs/speed/llama3-8b yet") != std::string::npos;
  EXPECT_EQ(warned, std::string(row.file) == "serve") << plan.err;
}

INSTANTIATE_TEST_SUITE_P(
    All, SpeedRows,
    ::testing::Values(
        PlannedRow{"124m",
                   "train",
                   {"train=124m"},
                   "64 samples of 1024 tokens, in micro-batches of 64",
                   "123.6M parameters"},
        PlannedRow{"1b",
                   "train",
                   {"train=1b"},
                   "8 samples of 4096 tokens, in micro-batches of 8",
                   "1235.8M parameters"},
        PlannedRow{"two_gpus",
                   "train",
                   {"train=1b", "train.model.global_batch_size=16", "++experiment.runner.nproc_per_node=2"},
                   "16 samples of 4096 tokens, in micro-batches of 8",
                   "plan of each of 2 ranks: 1235.8M parameters"},
        PlannedRow{"8b", "train", {"train=8b"}, "1 samples of 8192 tokens", "8030.3M parameters"},
        PlannedRow{"8b_fp32", "train", {"train=8b_fp32"}, "1 samples of 8192 tokens", "8030.3M parameters"},
        PlannedRow{"lora",
                   "train",
                   {"train=8b_lora"},
                   "1 samples of 4096 tokens",
                   "8030.3M parameters, frozen, and 41.94M of an adapter of rank 16"},
        PlannedRow{"lora_fp8",
                   "train",
                   {"train=8b_lora_fp8"},
                   "1 samples of 4096 tokens",
                   "8030.3M parameters, frozen, and 41.94M of an adapter of rank 16"},
        PlannedRow{
            "experts", "train", {"train=30b_a3b_8l"}, "8 samples of 4096 tokens", "5607.3M parameters"},
        PlannedRow{"experts_b9",
                   "train",
                   {"train=30b_a3b_8l", "train.model.micro_batch_size=9", "train.model.global_batch_size=9"},
                   "9 samples of 4096 tokens, in micro-batches of 9",
                   "5607.3M parameters"},
        PlannedRow{"serve_fp8", "serve", {"serve=8b_fp8"}, "would serve", "outputs/speed/llama3-8b"},
        PlannedRow{"serve_fp8_512", "serve", {"serve=8b_fp8_512"}, "would serve", "outputs/speed/llama3-8b"},
        PlannedRow{"serve_bf16", "serve", {"serve=8b_bf16"}, "would serve", "outputs/speed/llama3-8b"}),
    [](const auto& test) { return std::string(test.param.name); });

const Words kSmall{"train.model.num_layers=1",         "train.model.hidden_size=64",
                   "train.model.ffn_hidden_size=96",   "train.model.num_attention_heads=4",
                   "++train.model.num_query_groups=4", "train.model.seq_length=32",
                   "train.model.micro_batch_size=1",   "train.model.global_batch_size=1"};

// The two commands that docs/performance.md has for a row by itself.
TEST(SpeedRow, IsTrainedOnAnyNumbers) {
  const TemporaryFolder folder;
  std::string words;
  for (const std::string& word : kSmall) words += " " + word;
  const Result result = shell(
      "set -e; shuf -r -n 4000 -i 0-50303 >numbers.txt\n"
      "flagscale data preprocess --input numbers.txt --plain-text --document file --tokenizer-type "
      "NullTokenizer "
      "--vocab-size 50304 --output-prefix random\n"
      "flagscale train speed data_path=random_text_document train.model.train_iters=3 --device cpu" +
          words,
      folder.path);
  EXPECT_NE(result.out.find("iteration        3/       3"), std::string::npos) << result.out << result.err;
  EXPECT_NE(result.out.find("throughput per GPU"), std::string::npos) << result.out;
  for (const auto& entry : fs::directory_iterator(folder.path))
    EXPECT_FALSE(entry.is_directory()) << entry.path() << " was left";
}

TEST(BenchRows, MeasuresWhatIsHereAndSaysWhyTheRestIsNot) {
  const TemporaryFolder folder;
  const Result result = run(Words{"bench", "rows", "--rows", "124m,1b-start,1b-start-cold,8b-lora", "--steps",
                                  "3", "--device", "cpu", "--json"} +
                                kSmall,
                            folder.path);
  ASSERT_EQ(result.code, 0) << result.err;
  const json rows = json::parse(result.out)["rows"];
  ASSERT_EQ(rows.size(), 4u);
  for (const size_t i : {0u, 1u}) {
    EXPECT_GT(rows[i].value("measured", 0.0), 0) << rows[i];
    EXPECT_GT(rows[i].value("planned_bytes", 0.0), 1e6) << rows[i];
    EXPECT_GT(rows[i].value("of_goal", 0.0), 0) << rows[i];
  }
  EXPECT_TRUE(rows[0].contains("tflops"));
  EXPECT_GT(rows[2].value("measured", 0.0), 0) << rows[2];  // which has no goal
  EXPECT_TRUE(rows[2]["goal"].is_null() && !rows[2].contains("of_goal")) << rows[2];
  EXPECT_NE(rows[3].value("not_measured", "").find("random_llama.py"), std::string::npos) << rows[3];
  const Result two =
      run(Words{"bench", "rows", "--rows", "1b,1b-2gpu", "--steps", "2", "--device", "cpu", "--json"} +
              kSmall + Words{"train.model.global_batch_size=2"},
          folder.path);
  ASSERT_EQ(two.code, 0) << two.err;
  const json pair = json::parse(two.out)["rows"][1];
  EXPECT_GT(pair.value("times_one_gpu", 0.0), 0) << two.out;
  EXPECT_NEAR(pair.value("of_goal", 0.0), pair.value("times_one_gpu", 0.0) / 1.95, 1e-9) << two.out;
  const Result unknown = run({"bench", "rows", "--rows", "124"}, folder.path);
  EXPECT_NE(unknown.code, 0);
  EXPECT_NE(unknown.err.find("did you mean 124m?"), std::string::npos) << unknown.err;
}

// What does not fit is not measured, and no failure of a row; a mistake is one, whatever its words.
TEST(BenchRows, TellsWhatDoesNotFitFromWhatFails) {
  const TemporaryFolder folder;
  const Words command{"bench", "rows", "--rows", "8b", "--steps", "1", "--device", "cpu", "--json"};
  const Result large = run(command + Words{"train.model.num_layers=400"}, folder.path);
  EXPECT_EQ(large.code, 1) << "nothing was measured";
  EXPECT_NE(large.err.find("none of these rows can be measured here"), std::string::npos) << large.err;
  const json not_measured = json::parse(large.out)["rows"][0];
  EXPECT_NE(not_measured.value("not_measured", "").find("GiB free"), std::string::npos) << not_measured;
  const Result mistake = run(command + Words{"train.model.lr=some GiB free"}, folder.path);
  EXPECT_EQ(mistake.code, 1) << mistake.err;
  const json failed = json::parse(mistake.out)["rows"][0];
  EXPECT_NE(failed.value("failed", "").find("some GiB free"), std::string::npos) << failed;
}

TEST(BenchRows, TellsWhatItHasMeasuredWhereItIsStopped) {
  const TemporaryFolder folder;
  std::string words;
  for (const std::string& word : kSmall) words += " " + word;
  const Result result = shell("flagscale bench rows --rows 124m,1b --steps 300 --device cpu" + words +
                                  " >out 2>err & p=$!\n"
                                  "until grep -q '^1b: ' err || ! kill -0 $p; do sleep 0.02; done; kill "
                                  "-TERM $p; wait $p; echo code $?; cat out",
                              folder.path);
  EXPECT_NE(result.out.find("code 130"), std::string::npos) << result.out << result.err;
  EXPECT_NE(result.out.find("124m"), std::string::npos) << result.out;
  EXPECT_EQ(result.out.find("\n1b "), std::string::npos) << result.out;
}

}  // namespace
}  // namespace flagscale::e2e
