// The whole way on a small text: tokenizer, data, training, resume, export, generation, scores; and what goes
// wrong on it.

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "net/client.h"
#include "tests/e2e/server_process.h"
#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;

class Pipeline : public Workshop {};

double number_after(const std::string& text, const std::string& label) {
  const size_t at = text.rfind(label);
  return at == std::string::npos ? -1 : std::strtod(text.c_str() + at + label.size(), nullptr);
}

TEST_F(Pipeline, TrainsSavesExportsGeneratesAndScores) {
  const Result trained = must(training("run", {}));
  const double loss = number_after(trained.out, "lm loss value: ");
  EXPECT_GT(loss, 0) << trained.out;
  EXPECT_LT(loss, std::log(512.0)) << "not better than a uniform guess";
  must({"checkpoint", "export", "run/checkpoints", "exported"});
  EXPECT_TRUE(fs::exists(folder_ / "exported/config.json"));
  EXPECT_TRUE(fs::exists(folder_ / "exported/tokenizer.json"));

  // The checkpoint and its export are one model.
  std::ofstream(folder_ / "prompts.jsonl") << R"({"prompt": "namespace flagscale"})"
                                           << "\n"
                                           << R"({"prompt": "// The"})"
                                           << "\n";
  const std::vector<std::string> flags{"--prompts", "prompts.jsonl", "--max-tokens", "8", "--temperature",
                                       "0",         "--json"};
  std::vector<std::string> words{"generate", "run/checkpoints"};
  words.insert(words.end(), flags.begin(), flags.end());
  const Result from_checkpoint = must(words);
  words[1] = "exported";
  const Result from_export = must(words);
  EXPECT_EQ(from_checkpoint.out, from_export.out);
  std::istringstream lines(from_export.out);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto json = nlohmann::json::parse(line);
    EXPECT_EQ(json.at("token_ids").size(), 8u);
    EXPECT_FALSE(json.at("prompt_token_ids").empty());
    EXPECT_TRUE(json.at("text").is_string());
    EXPECT_EQ(json.at("finish_reason"), "length");
  }
  EXPECT_EQ(count, 2);
  const Result scored = must({"score", "exported", "--prompts", "prompts.jsonl", "--json"});
  const auto first = nlohmann::json::parse(scored.out.substr(0, scored.out.find('\n')));
  EXPECT_EQ(first.at("logprobs").size() + 1, first.at("prompt_token_ids").size());
  EXPECT_GT(first.at("perplexity").get<double>(), 1.0);

  // An example that serves names its model.
  fs::create_directories(folder_ / "examples/served/conf/serve");
  std::ofstream(folder_ / "examples/served/conf/serve.yaml")
      << "defaults: [_self_, {serve: one}]\naction: run\n";
  std::ofstream(folder_ / "examples/served/conf/serve/one.yaml")
      << "- serve_id: m\n  engine_args: {model: exported}\n";
  words[1] = "served";
  EXPECT_EQ(must(words).out, from_export.out);
  std::ofstream(folder_ / "examples/served/conf/train.yaml")
      << "experiment: {exp_dir: untrained}\ntrain: {}\n";
  EXPECT_EQ(must(words).out, from_export.out) << "it has trained none";

  // A prompt that cannot be generated from is named by its line.
  std::string long_prompt = "{\"prompt\": \"";
  for (int i = 0; i < 200; ++i) long_prompt += std::to_string(i) + " ";
  for (const std::string& line : {std::string(R"({"prompt": ""})"), long_prompt + "\"}",
                                  std::string(R"({"prompt": 1})"), std::string("{")}) {
    std::ofstream(folder_ / "odd.jsonl") << R"({"prompt": "a"})" << "\n\n" << line << "\n";
    for (const char* command : {"generate", "score"}) {
      const Result refused = run({command, "exported", "--prompts", "odd.jsonl", "--json"}, folder_);
      EXPECT_EQ(refused.code, 2) << line << refused.err;
      EXPECT_NE(refused.err.find("odd.jsonl:3"), std::string::npos) << line << refused.err;
      EXPECT_EQ(refused.out, "");
    }
  }
}

TEST_F(Pipeline, ServesWhatWasTrained) {
  must(training("served", {"train.model.train_iters=10"}));
  ServerProcess server({"served/checkpoints", "--served-model-name", "trained", "--api-key", "key",
                        "--engine-args", R"({"kv_cache_dtype": "float32"})"},
                       folder_);
  ASSERT_NE(server.port(), 0) << server.ready_line();
  EXPECT_NE(server.ready_line().find("Serving trained at http://127.0.0.1:"), std::string::npos)
      << server.ready_line();
  net::Client client({false, "127.0.0.1", server.port(), "/"});
  EXPECT_EQ(client.send("GET", "/health").status, 200);
  EXPECT_EQ(client.send("GET", "/v1/models").status, 401);
  const net::Headers headers = {{"Content-Type", "application/json"}, {"Authorization", "Bearer key"}};
  const std::string body = R"({"prompt": "namespace flagscale", "max_tokens": 8, "temperature": 0})";
  const auto answer = nlohmann::json::parse(client.send("POST", "/v1/completions", body, headers).body);
  // The server is the engine that `generate` runs.
  const Result generated = must({"generate", "served/checkpoints", "--prompt", "namespace flagscale",
                                 "--max-tokens", "8", "--temperature", "0"});
  EXPECT_EQ(answer["choices"][0]["text"].get<std::string>() + "\n", generated.out) << answer;
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
}

TEST_F(Pipeline, GoesOnFromACheckpointToTheSameLosses) {
  const Result whole = must(training("whole", {}));
  must(training("halves", {"+train.model.exit_interval=10"}));
  const Result second = must(training("halves", {}));
  static const std::regex kIteration("iteration +(15|20)/ +20 .*lm loss: ([0-9.E+-]+)");
  const auto losses = [](const std::string& text) {
    std::vector<std::string> found;
    for (std::sregex_iterator it(text.begin(), text.end(), kIteration), end; it != end; ++it)
      found.push_back((*it)[2]);
    return found;
  };
  ASSERT_EQ(losses(whole.out).size(), 2u) << whole.out;
  EXPECT_EQ(losses(whole.out), losses(second.out)) << second.out;
}

// Checkpoints keep their tokenizer: they can be moved, and another one in its place is not taken for theirs.
TEST_F(Pipeline, CheckpointsBringTheirTokenizer) {
  fs::copy(folder_ / "tokenizer", folder_ / "own_tokenizer", fs::copy_options::recursive);
  const auto words = training("moving", {"train.model.train_iters=10", "tokenizer_path=own_tokenizer"});
  must(words);
  must({"data", "train-tokenizer", "--input", "text.txt", "--vocab-size", "300", "--output",
        "other_tokenizer"});
  fs::remove_all(folder_ / "own_tokenizer");
  fs::rename(folder_ / "other_tokenizer", folder_ / "own_tokenizer");
  const Result refused = run(words, folder_);
  EXPECT_EQ(refused.code, 2) << refused.out;
  EXPECT_NE(refused.err.find("own_tokenizer: tokenizer.json is not that of the checkpoints in"),
            std::string::npos)
      << refused.err;
  fs::remove_all(folder_ / "own_tokenizer");
  fs::rename(folder_ / "moving/checkpoints", folder_ / "moved");
  must({"generate", "moved", "--prompt", "namespace", "--max-tokens", "4", "--temperature", "0"});
  must({"checkpoint", "export", "moved", "moved_hf"});
  EXPECT_EQ(contents(folder_ / "moved_hf/tokenizer.json"), contents(folder_ / "tokenizer/tokenizer.json"));
  fs::remove_all(folder_ / "moved/tokenizer");
  const Result without = run({"generate", "moved", "--prompt", "a"}, folder_);
  EXPECT_NE(without.err.find("own_tokenizer, which is not there"), std::string::npos) << without.err;
}

TEST_F(Pipeline, ATestRunsWhateverWasTrainedBefore) {
  must(training("tested", {"train.model.train_iters=10"}));
  const Result tested = must(training("tested", {"train.model.train_iters=10", "action=test"}));
  EXPECT_NE(tested.out.find("iteration        5/       5"), std::string::npos) << tested.out;
}

TEST_F(Pipeline, WhatIsNoCheckpointIsNotTakenForAFirstStart) {
  const Result refused = run(training("loads", {"+train.system.checkpoint.load=tokenizer"}), folder_);
  EXPECT_EQ(refused.code, 2) << refused.out;
  EXPECT_NE(refused.err.find("load: tokenizer is no folder of checkpoints"), std::string::npos)
      << refused.err;
}

TEST_F(Pipeline, WhatCannotBeWrittenIsRefused) {
  must(training("written", {"train.model.train_iters=10"}));
  const Result named =
      run({"checkpoint", "export", "written/checkpoints", "no_hf", "--tokenizer", "nowhere"}, folder_);
  EXPECT_EQ(named.code, 1);
  EXPECT_NE(named.err.find("there is no tokenizer at nowhere"), std::string::npos) << named.err;
  EXPECT_FALSE(fs::exists(folder_ / "no_hf"));
  const Result both =
      run(training("both", {"++train.system.precision.bf16=true", "++train.system.precision.fp16=true"}),
          folder_);
  EXPECT_NE(both.err.find("fp16 and bf16 are both true"), std::string::npos) << both.err;
  const Result endless = run(training("endless", {"train.model.train_iters=9000000000000000000"}), folder_);
  EXPECT_NE(endless.err.find("are more than the 2^50 samples"), std::string::npos) << endless.err;
  const Result wide =
      run(training("wide", {"train.model.seq_length=4096", "train.model.max_position_embeddings=4096",
                            "train.model.micro_batch_size=1000000", "train.model.global_batch_size=1000000"}),
          folder_);
  EXPECT_NE(wide.err.find("for its hidden states alone"), std::string::npos) << wide.err;
  setenv("FLAGSCALE_THREADS", "100000", 1);
  const Result threads = run(training("threads", {}), folder_);
  unsetenv("FLAGSCALE_THREADS");
  EXPECT_NE(threads.err.find("FLAGSCALE_THREADS is '100000', expected a number from 1 to 4096"),
            std::string::npos)
      << threads.err;
}

// One pass over the data has one order, however much of it is asked for; two passes have another.
TEST_F(Pipeline, MoreIterationsThanPlannedSayWhereTheyChangeTheOrder) {
  constexpr const char* kWarning = "the samples come in another order";
  must(training("longer", {"train.model.train_iters=10"}));
  const Result longer = must(training("longer", {"train.model.train_iters=20"}));
  EXPECT_EQ(longer.err.find(kWarning), std::string::npos) << longer.err;
  const Result again =
      must(training("longer", {"train.model.train_iters=10000", "++train.model.exit_interval=21"}));
  EXPECT_NE(again.err.find(kWarning), std::string::npos) << again.err;
  const Result seed = must(training("longer", {"train.model.train_iters=22", "train.model.seed=5"}));
  EXPECT_NE(seed.err.find("seed 1234; now: "), std::string::npos) << seed.err;
}

// Full fine-tuning of what was exported: it starts where the other run ended.
TEST_F(Pipeline, TrainsOnFromAHuggingFaceFolder) {
  const Result base = must(training("base", {"train.system.logging.log_interval=1"}));
  must({"checkpoint", "export", "base/checkpoints", "base_hf"});
  std::vector<std::string> words{"train", "base_hf", FLAGSCALE_SOURCE_DIR "/examples/aquila/conf/train.yaml"};
  const auto more = training("tuned", {"train.system.logging.log_interval=1"});
  words.insert(words.end(), more.begin() + static_cast<long>(configured().size()), more.end());
  const Result tuned = must(words);
  const auto first = [](const std::string& text) {
    return number_after(text.substr(0, text.find('\n')), "lm loss: ");
  };
  EXPECT_LT(first(tuned.out), first(base.out) - 0.1) << tuned.out;
  EXPECT_LT(number_after(tuned.out, "lm loss value: "), number_after(base.out, "lm loss value: "))
      << tuned.out;
  must({"generate", "tuned/checkpoints", "--prompt", "namespace", "--max-tokens", "4", "--temperature", "0"});

  // Keys that ask for another model are refused; the folder's tokenizer serves where no key names one.
  auto other = words;
  other.insert(other.end(), {"train.model.hidden_size=32", "train.model.norm_epsilon=1e-3"});
  const Result refused = run(other, folder_);
  EXPECT_EQ(refused.code, 2) << refused.out;
  for (const char* part :
       {"override 'train.model.hidden_size=32': train.model.hidden_size is 32, the weights have 64",
        "train.model.norm_epsilon is 0.001, the weights have 1e-05"})
    EXPECT_NE(refused.err.find(part), std::string::npos) << refused.err;
  words.insert(words.end(), {"~train.data.tokenizer", "action=dryrun"});
  must(words);
}

// Without bf16 instructions, which FLAGSCALE_ISA takes away: the fp32 run, and it says so.
TEST_F(Pipeline, Fp16WithoutBf16InstructionsIsFp32) {
  const auto losses = [](const Result& result) {
    static const std::regex kLosses("lm loss: [0-9.E+-]+");
    std::string all;
    for (std::sregex_iterator it(result.out.begin(), result.out.end(), kLosses), end; it != end; ++it)
      all += it->str() + "\n";
    return all;
  };
  const auto trained = [&](const std::string& name, const std::string& precision) {
    auto words = training(name, {"train.model.train_iters=5", "++train.system.precision." + precision});
    const Setting setting{.folder = folder_, .environment = {"FLAGSCALE_ISA=avx2"}};
    const Result result = Child(program(words), setting).wait();
    EXPECT_EQ(result.code, 0) << result.err;
    return result;
  };
  const Result fp16 = trained("fp16", "fp16=true"), fp32 = trained("fp32", "bf16=false"),
               bf16 = trained("bf16", "bf16=true");
  EXPECT_NE(fp16.err.find("fp16: true trains in fp32: this processor has no bf16 instructions"),
            std::string::npos)
      << fp16.err;
  EXPECT_NE(losses(fp16), "");
  EXPECT_EQ(losses(fp16), losses(fp32));
  EXPECT_NE(losses(fp16), losses(bf16));
}

TEST_F(Pipeline, RefusesWhatCannotBe) {
  struct Refusal {
    std::vector<std::string> words;
    int code;
    std::string says;
  };
  const std::vector<Refusal> cases = {
      {{"train", "nosuchmodel"}, 1, "nosuchmodel"},
      {training("bad", {"data_path=absent"}), 1, "absent"},
      {training("bad", {"train.model.nun_layers=3"}), 2, "num_layers"},
      {training("bad", {"train.model.num_attention_heads=7"}), 2, "num_attention_heads"},
      {training("bad", {"train.model.micro_batch_size=3", "train.model.global_batch_size=4"}), 2,
       "micro_batch_size"},
      {{"generate", "text.txt", "--prompt", "x"}, 1, "text.txt"},
      {{"generate", "tokenizer", "--prompt", "x"}, 1, "tokenizer"},
      {{"checkpoint", "inspect", "tokenizer/tokenizer.json"}, 1, "tokenizer.json"},
      {{"data", "inspect", "absent"}, 1, "absent"},
  };
  for (const Refusal& c : cases) {
    const Result result = run(c.words, folder_);
    const std::string what = c.words[0] + " " + c.words.back();
    EXPECT_TRUE(result.code == 1 || result.code == 2) << what << " ended with " << result.code << "\n"
                                                      << result.err;
    EXPECT_EQ(result.code, c.code) << what << "\n" << result.err;
    EXPECT_NE(result.err.find("flagscale: error:"), std::string::npos) << what << "\n" << result.err;
    EXPECT_NE(result.err.find(c.says), std::string::npos) << what << "\n" << result.err;
  }
  EXPECT_FALSE(fs::exists(folder_ / "bad/checkpoints")) << "a refused run left something behind";
}

}  // namespace
}  // namespace flagscale::e2e
