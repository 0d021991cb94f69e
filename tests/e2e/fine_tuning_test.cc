// Fine-tuning through the program: conversations of several formats become tokens with a mask, an adapter is
// trained of them by each optimizer, merged and taken out again.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTemplate =
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

class FineTuning : public Workshop {
 protected:
  void SetUp() override {
    if (fs::exists(folder_ / "base_hf")) return;
    must(training("base", {}));
    must({"checkpoint", "export", "base/checkpoints", "base_hf"});
    write("template.jinja", kTemplate);
    std::string chats;
    for (int i = 0; i < 24; ++i) {
      const std::string question = "What is " + std::to_string(i) + "?",
                        answer = "A number: " + std::to_string(i);
      const nlohmann::json messages{
          {"messages",
           {{{"role", "user"}, {"content", question}}, {{"role", "assistant"}, {"content", answer}}}}};
      const nlohmann::json share_gpt{
          {"conversations",
           {{{"from", "human"}, {"value", question}}, {{"from", "gpt"}, {"value", answer}}}}};
      chats += (i % 2 == 0 ? messages : share_gpt).dump() + "\n";
    }
    write("chats.jsonl", chats);
    must(preprocess("chats.jsonl", "chats"));
  }

  static std::vector<std::string> preprocess(const std::string& input, const std::string& prefix) {
    return {"data",
            "preprocess",
            "--input",
            input,
            "--conversations",
            "--tokenizer",
            "tokenizer",
            "--chat-template",
            "template.jinja",
            "--output-prefix",
            prefix};
  }

  // An adapter of the exported base.
  static std::vector<std::string> adapting(const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> words{"train", "base_hf",
                                   FLAGSCALE_SOURCE_DIR "/examples/aquila/conf/train.yaml"};
    const auto small = training(name, more);
    words.insert(words.end(), small.begin() + static_cast<long>(configured().size()), small.end());
    for (const char* word :
         {"data_path=chats_text_document", "train.model.train_iters=4", "+train.data.sft=true",
          "train.model.eval_iters=0", "+train.model.peft_type=lora", "+train.model.lora_dim=4",
          "train.data.split='1'", "train.system.logging.log_interval=1"})
      words.emplace_back(word);
    return words;
  }
};

TEST_F(FineTuning, ConversationsBecomeTokensWithAMaskThatIsShownInColour) {
  const Result made = must(preprocess("chats.jsonl", "again"));
  EXPECT_NE(made.out.find("again_text_document.bin and .idx: 24 documents, "), std::string::npos) << made.out;
  EXPECT_NE(made.out.find(" tokens are learnt, "), std::string::npos) << made.out;
  EXPECT_EQ(contents("again_loss_mask_document.bin"), contents("chats_loss_mask_document.bin"));
  const auto inspect = [](const std::string& colour) {
    return must({"data", "inspect", "chats_text_document", "--tokenizer", "tokenizer", "--documents", "1",
                 "--colour", colour})
        .out;
  };
  EXPECT_NE(inspect("never").find("<user>What is 0?</s>\n<assistant>⟦A number: 0</s>\n⟧"), std::string::npos)
      << inspect("never");
  EXPECT_NE(inspect("always").find("<assistant>\x1b[32mA number: 0</s>\n\x1b[0m"), std::string::npos)
      << inspect("always");
  EXPECT_EQ(inspect("auto"), inspect("never")) << "no terminal";
}

TEST_F(FineTuning, BrokenRecordsAreNamedAndSkippedWhenAsked) {
  write("bad.jsonl", contents("chats.jsonl").substr(0, contents("chats.jsonl").find('\n') + 1) +
                         "{\"messages\": []}\n{\"instruction\": \"Add.\", \"output\": \"3\"}\n");
  std::vector<std::string> words = preprocess("bad.jsonl", "bad");
  const Result refused = run(words, folder_);
  EXPECT_EQ(refused.code, 2) << refused.err;
  EXPECT_NE(refused.err.find("bad.jsonl:2: \"messages\" is not a list of messages"), std::string::npos)
      << refused.err;
  words.insert(words.end(), {"--on-error", "skip"});
  const Result skipped = must(words);
  EXPECT_NE(skipped.out.find("2 documents, "), std::string::npos) << skipped.out;
  EXPECT_NE(skipped.out.find("1 broken documents skipped: see bad.skipped.jsonl"), std::string::npos)
      << skipped.out;
  EXPECT_EQ(contents("bad.skipped.jsonl"),
            "{\"file\":\"bad.jsonl\",\"line\":2,\"error\":\"\\\"messages\\\" is not a list of messages\"}\n");
}

TEST_F(FineTuning, WhatMayBeASlipIsCountedWithItsPlace) {
  write("odd.jsonl", contents("chats.jsonl") +
                         "{\"prompt\": \"x\", \"completion\": \"\"}\n"
                         "{\"messages\": [{\"role\": \"wizard\", \"content\": \"w\"}, {\"role\": "
                         "\"assistant\", \"content\": \"\"}]}\n");
  const Result made = must(preprocess("odd.jsonl", "odd"));
  for (const char* line :
       {"answers that are empty, whose end is learnt: 2 (first: odd.jsonl:25)\n",
        "messages of role 'wizard', which are not taken for answers: 1 (first: odd.jsonl:26)\n"})
    EXPECT_NE(made.out.find(line), std::string::npos) << made.out;
  EXPECT_FALSE(fs::exists(folder_ / "odd.skipped.jsonl"));
}

TEST_F(FineTuning, ContentsOfPartsAreReadAsTheirText) {
  fs::copy(folder_ / "base_hf", folder_ / "chatting");
  write("chatting/chat_template.jinja", kTemplate);
  const auto prompt = [](const std::string& content) {
    write("parts.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": " + content + "}]}\n");
    const Result result = must({"score", "chatting", "--prompts", "parts.jsonl", "--json"});
    return nlohmann::json::parse(result.out).at("prompt_token_ids");
  };
  EXPECT_EQ(prompt(R"([{"type": "text", "text": "What is"}, {"type": "text", "text": "5?"}])"),
            prompt(R"("What is\n5?")"));
}

TEST_F(FineTuning, ParquetIsReadAsItsRows) {
  const std::string golden = FLAGSCALE_SOURCE_DIR "/tests/golden/data/parquet/";
  const auto rows = nlohmann::json::parse(contents(golden + "rows.json"));
  std::string lines;
  for (const auto& row : rows["conversations"]) lines += row.dump() + "\n";
  write("rows.jsonl", lines);
  must(preprocess("rows.jsonl", "lines"));
  must(preprocess(golden + "conversations.parquet", "rows"));
  for (const char* end : {"_text_document.bin", "_text_document.idx", "_loss_mask_document.bin"})
    EXPECT_EQ(contents(std::string("lines") + end), contents(std::string("rows") + end)) << end;

  const Result text = must({"data", "preprocess", "--input", golden + "text.parquet", "--tokenizer",
                            "tokenizer", "--output-prefix", "columns"});
  EXPECT_NE(text.out.find("columns_text_document.bin and .idx: 50 documents"), std::string::npos) << text.out;
  const Result refused = run({"data", "preprocess", "--input", golden + "broken.parquet", "--tokenizer",
                              "tokenizer", "--output-prefix", "broken"},
                             folder_);
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("broken.parquet: row 2: has no key \"text\""), std::string::npos) << refused.err;
}

TEST_F(FineTuning, AnAdapterIsTrainedMergedAndTakenOutAgain) {
  const Result trained = must(adapting("adapter", {"train.model.optimizer.lr_scheduler.lr=0.05"}));
  EXPECT_NE(trained.err.find("of an adapter of rank 4"), std::string::npos) << trained.err;
  EXPECT_NE(trained.err.find("trained on "), std::string::npos) << trained.err;
  write("asked.jsonl", R"({"prompt": "<user>What is 5?</s><assistant>It is 5.</s>"})");
  const auto score = [](const std::string& model, const std::vector<std::string>& more) {
    std::vector<std::string> words{"score", model, "--prompts", "asked.jsonl", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return nlohmann::json::parse(must(words).out);
  };
  const auto perplexity = [&](const std::string& model, const std::vector<std::string>& more) {
    return score(model, more).at("perplexity").get<double>();
  };
  const nlohmann::json with = score("base_hf", {"--lora", "adapter/checkpoints"}),
                       without = score("base_hf", {});
  const double adapted = with.at("perplexity"), base = without.at("perplexity");
  double furthest = 0;  // of one token: over all of them it may come out even
  for (size_t i = 0; i < with.at("logprobs").size(); ++i)
    furthest = std::max(
        furthest, std::abs(with["logprobs"][i].get<double>() - without.at("logprobs").at(i).get<double>()));
  EXPECT_GT(furthest, 0.01) << "the adapter does nothing";
  must({"checkpoint", "merge", "base_hf", "adapter/checkpoints", "merged"});
  EXPECT_NEAR(perplexity("merged", {}) / adapted, 1, 1e-4);
  must({"checkpoint", "export", "adapter/checkpoints", "peft"});
  must({"checkpoint", "unmerge", "merged", "peft", "unmerged"});
  EXPECT_NEAR(perplexity("unmerged", {}) / base, 1, 1e-4);
  for (const char* folder : {"merged", "unmerged"}) must({"checkpoint", "verify", folder});
  const Result refused = run({"checkpoint", "merge", "base_hf", "tokenizer", "nothing"}, folder_);
  EXPECT_NE(refused.code, 0);
  EXPECT_FALSE(fs::exists(folder_ / "nothing"));
}

// The model brings its shape and its tokenizer.
TEST_F(FineTuning, AYamlOfAdapterBatchAndScheduleIsEnough) {
  write("lora.yaml", R"(
experiment: {exp_name: taught, exp_dir: taught}
data_path: ???
train:
  system: {log_interval: 1}
  model: {peft_type: lora, lora_dim: 4, seq_length: 64, train_iters: 2, eval_iters: 0, micro_batch_size: 2,
    optimizer: {lr_scheduler: {lr: 1.0e-3, lr_decay_style: cosine}}}
  data: {data_path: "${data_path}", split: "1", sft: true}
)");
  const std::vector<std::string> words{"train", "base_hf", "lora.yaml", "data_path=chats_text_document"};
  const auto with = [&](const std::string& more) {
    std::vector<std::string> all = words;
    all.push_back(more);
    return run(all, folder_).err;
  };
  must(words);
  EXPECT_NE(with("++train.model.num_layers=7").find("num_layers is 7, the weights have 2"),
            std::string::npos);
  EXPECT_NE(with("train.model.seq_length=4").find("no token of the training split is learnt"),
            std::string::npos);
  const Result refused = run({"generate", "taught/checkpoints", "--prompt", "hi"}, folder_);
  EXPECT_NE(refused.err.find("holds a LoRA adapter and no model: give its base (base_hf)"), std::string::npos)
      << refused.err;
  must({"config", "validate", "--config-path", ".", "--config-name", "lora", "data_path=chats_text_document",
        "++train.model.pretrained_checkpoint=base_hf"});
}

TEST_F(FineTuning, EveryOptimizerTrainsAndGoesOn) {
  for (const std::string name : {"sgd", "lion", "adafactor", "muon", "adamw8bit"}) {
    SCOPED_TRACE(name);
    const std::string key = "+train.model.optimizer.optimizer=" + name;
    const Result first = must(adapting("by_" + name, {key, "+train.model.exit_interval=2"}));
    const Result second = must(adapting("by_" + name, {key}));
    EXPECT_NE(second.err.find("(iteration 2)"), std::string::npos) << second.err;
    EXPECT_NE(second.out.find("iteration        4/       4"), std::string::npos) << second.out;
  }
  const Result other = run(adapting("by_sgd", {}), folder_);
  EXPECT_NE(other.err.find("was trained with optimizer: sgd, and this run's is adam"), std::string::npos)
      << other.err;
  const Result unknown = run(adapting("none", {"+train.model.optimizer.optimizer=lionn"}), folder_);
  EXPECT_EQ(unknown.code, 2);
  EXPECT_NE(unknown.err.find("did you mean lion?"), std::string::npos) << unknown.err;
}

}  // namespace
}  // namespace flagscale::e2e
