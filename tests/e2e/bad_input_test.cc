// What cannot be used is refused: which file, what is wrong, what would be right; never a crash, nothing left
// half.

#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;
const std::string kGolden = FLAGSCALE_SOURCE_DIR "/tests/golden/";

class BadInput : public Workshop {
 protected:
  static void refuses(const Words& words, int code, const Words& says) {
    const Result result = run(words, folder_);
    std::string command = "flagscale";
    for (const std::string& word : words) command += " " + word;
    EXPECT_EQ(result.code, code) << command << "\n" << result.out << result.err;
    EXPECT_NE(result.err.find("flagscale: error:"), std::string::npos) << command << "\n" << result.err;
    for (const std::string& part : says)
      EXPECT_NE(result.err.find(part), std::string::npos) << command << "\n" << result.err;
  }

  // Damaged copies of `file`, each read by `words`. What is cut or is not the format at all is refused by
  // name; of flipped bytes all that is asked for is an end in order.
  static void damage(const std::string& file, const Words& words, const std::string& names = "") {
    const std::string whole = contents(file);
    const std::string name = names.empty() ? fs::path(file).filename().string() : names;
    ASSERT_FALSE(whole.empty()) << file;
    for (const size_t keep : {size_t{0}, size_t{3}, whole.size() / 2}) {
      SCOPED_TRACE(file + " cut to " + std::to_string(keep) + " bytes");
      write(file, whole.substr(0, keep));
      refuses(words, 1, {name});
    }
    SCOPED_TRACE(file);
    write(file, std::string(whole.size(), '\xff'));
    refuses(words, 1, {name});
    for (size_t i = 0; i < 12; ++i) {
      std::string flipped = whole;
      flipped[whole.size() * i / 12] = static_cast<char>(flipped[whole.size() * i / 12] ^ 0x55);
      write(file, flipped);
      const Result result = run(words, folder_);
      EXPECT_LE(result.code, 2) << "flipped byte " << whole.size() * i / 12 << "\n" << result.err;
    }
    write(file, whole);
    must(words);
  }
  static void copy(const std::string& golden, const std::string& to) {
    fs::create_directories((folder_ / to).parent_path());
    fs::copy(kGolden + golden, folder_ / to, fs::copy_options::recursive);
  }
};

TEST_F(BadInput, TheRequiredValueThatIsNotSetIsNamed) {
  refuses(configured(), 2, {"required value train.data.data_path is not set"});
  const std::string theirs = FLAGSCALE_SOURCE_DIR "/../shared/flagscale/examples/aquila/conf";
  if (!fs::exists(theirs)) GTEST_SKIP() << "../shared is not here: only our own files were tried";
  refuses({"run", "--config-path", theirs, "--config-name", "train"}, 2,
          {"required value train.data.data_path is not set"});
}

TEST_F(BadInput, KeysThatAreNone) {
  refuses(training("keys", {"+train.model.rotary_bse=1"}), 2,
          {"rotary_bse", "override", "did you mean 'rotary_base'?"});
  write("typo/train.yaml", "train:\n  model:\n    num_layers: 2\n    hiden_size: 64\n");
  refuses({"config", "validate", "--config-path", "typo", "--config-name", "train"}, 2,
          {"train.yaml:4", "train.model.hiden_size", "did you mean 'hidden_size'?"});
  refuses(training("keys",
                   {"+train.system.context_parallel_size=2", "train.system.tensor_model_parallel_size=4"}),
          1,
          {"context_parallel_size (a model on several ranks)",
           "tensor_model_parallel_size (a model on several ranks)"});
  const Result told = run(training("keys", {"+train.system.use_flash_attn=true",
                                            "+train.system.wandb_project=x", "action=dryrun"}),
                          folder_);
  EXPECT_TRUE(std::regex_search(
      told.err, std::regex("change nothing here[^\n]*: [^\n]*use_flash_attn[^\n]*wandb_project[^\n]*\n")))
      << told.err;
}

TEST_F(BadInput, ExplainSaysAllThatIsKnown) {
  const std::string plain = must({"config", "explain", "train.model.rotary_base"}).out;
  for (const char* part : {"float", "default 10000", "above 0", "rotary frequencies"})
    EXPECT_NE(plain.find(part), std::string::npos) << plain;
  write("explained/c.yaml", "base: 5e5\ntrain:\n  model:\n    rotary_base: ${base}\n");
  const Words where{"config",        "explain", "train.model.rotary_base", "--config-path", "explained",
                    "--config-name", "c"};
  const std::string set = must(where).out;
  EXPECT_NE(set.find("c.yaml:4"), std::string::npos) << set;
  EXPECT_NE(set.find("c.yaml:1"), std::string::npos) << set;
  Words overridden = where;
  overridden.emplace_back("base=7");
  EXPECT_NE(must(overridden).out.find("override 'base=7'"), std::string::npos);
}

TEST_F(BadInput, ShapesThatDoNotFit) {
  must(training("shapes", {"train.model.train_iters=10", "train.model.eval_iters=0"}));
  refuses(training("shapes", {"train.model.hidden_size=128"}), 2,
          {"iter_0000010", "hidden_size is 128, the checkpoint has 64", "train.model.hidden_size"});
  refuses(training("other", {"+train.system.checkpoint.pretrained_checkpoint=shapes/checkpoints",
                             "train.model.hidden_size=128"}),
          2, {"shapes/checkpoints is another model", "hidden_size is 128, the weights have 64"});
  copy("model/qwen2_tied", "misfit");
  auto config = nlohmann::json::parse(contents("misfit/config.json"));
  config["intermediate_size"] = config["intermediate_size"].get<int>() + 8;
  write("misfit/config.json", config.dump());
  refuses({"score", "misfit", "--text", "text.txt", "--tokenizer", "tokenizer"}, 1, {"mlp"});
}

TEST_F(BadInput, AVocabularyThatIsTooSmall) {
  refuses(training("small", {"+train.data.tokenizer.vocab_size=100"}), 2, {"vocab_size is 100", "512"});
  const Result result =
      run(training("small", {"+train.data.tokenizer.vocab_size=100", "~train.data.tokenizer.tokenizer_path",
                             "~train.data.tokenizer.tokenizer_type"}),
          folder_);
  EXPECT_EQ(result.code, 1) << result.err;
  EXPECT_NE(result.err.find("text_text_document.bin: sequence"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("the vocabulary has 0..127"), std::string::npos) << result.err;
}

// Weights that read well and are no numbers: nothing is made of them.
TEST_F(BadInput, AModelThatGivesNoNumbers) {
  must(training("whole", {"train.model.train_iters=1"}));
  must({"checkpoint", "export", "whole/checkpoints", "nan"});
  std::string weights = contents("nan/model.safetensors");
  ASSERT_GT(weights.size(), 4u);
  weights.replace(weights.size() - 4, 4, "\xc0\x7f\xc0\x7f");  // NaN in fp32, two of them in bf16
  write("nan/model.safetensors", weights);
  write("nan.jsonl", "{\"prompt\": \"namespace flagscale { int x = 12345; }\"}\n");
  const Words says{"nan: ", "is not a number (NaN or infinite)", "flagscale checkpoint verify"};
  for (const char* temperature : {"0", "1"}) {
    refuses({"generate", "nan", "--prompt", "namespace", "--temperature", temperature}, 1, says);
    refuses({"generate", "nan", "--prompts", "nan.jsonl", "--json", "--temperature", temperature}, 1, says);
  }
  EXPECT_EQ(run({"generate", "nan", "--prompts", "nan.jsonl", "--json"}, folder_).out, "");
  refuses({"generate", "nan", "--prompts", "nan.jsonl"}, 1, {"nan.jsonl:1", "is not a number"});
  refuses({"score", "nan", "--text", "text.txt"}, 1, says);
  refuses({"score", "nan", "--prompts", "nan.jsonl", "--json"}, 1, says);
  refuses({"checkpoint", "verify", "nan"}, 1, {"NaN"});
  const auto found = nlohmann::json::parse(run({"checkpoint", "verify", "nan", "--json"}, folder_).out);
  EXPECT_EQ(found["whole"], false);
  EXPECT_NE(found["error"].get<std::string>().find("NaN"), std::string::npos);
}

TEST_F(BadInput, DamagedFilesOfEveryFormat) {
  damage("tokenizer/tokenizer.json",
         {"data", "preprocess", "--input", "text.txt", "--plain-text", "--tokenizer", "tokenizer",
          "--output-prefix", "again"},
         "tokenizer");
  for (const char* end : {"idx", "bin"}) {
    fs::copy_file(folder_ / ("text_text_document." + std::string(end)), folder_ / ("d." + std::string(end)));
  }
  damage("d.idx", {"data", "inspect", "d"});
  const std::string bin = contents("d.bin");
  write("d.bin", bin.substr(0, bin.size() / 2));
  refuses({"data", "inspect", "d"}, 1, {"d.idx", ".bin is cut short"});
  refuses(training("cut", {"data_path=d"}), 1, {"d.idx", ".bin is cut short"});

  copy("model/qwen2", "hf");
  for (const char* file :
       {"hf/config.json", "hf/model.safetensors.index.json", "hf/model-00001-of-00002.safetensors"})
    damage(file, {"checkpoint", "export", "hf", "hf_out", "--overwrite"});
  copy("io/llama.gguf", "m/llama.gguf");
  damage("m/llama.gguf", {"checkpoint", "inspect", "m/llama.gguf"});
  copy("io/checkpoints", "ck");
  damage("ck/iter_0000007/manifest.json", {"checkpoint", "verify", "ck"});
  damage("ck/iter_0000007/rank_00000_00000.safetensors", {"checkpoint", "verify", "ck"});
  fs::create_directory(folder_ / "sp");
  write("sp/tokenizer.model", std::string(1000, '\x7f'));
  refuses({"data", "preprocess", "--input", "text.txt", "--plain-text", "--tokenizer", "sp",
           "--output-prefix", "again"},
          1, {"tokenizer.model"});
}

TEST_F(BadInput, DamagedVocabularyAndMerges) {
  write_vocabulary_and_merges("aquila");
  const Words words{"data",
                    "preprocess",
                    "--input",
                    "text.txt",
                    "--plain-text",
                    "--output-prefix",
                    "again",
                    "--tokenizer-type",
                    "AquilaTokenizerFS",
                    "--tokenizer",
                    "aquila",
                    "--vocab-file",
                    "aquila/vocab.json",
                    "--merge-file",
                    "aquila/merges.txt"};
  must(words);
  damage("aquila/vocab.json", words);
  write("aquila/merges.txt", "#version: 0.2\nthis line has too many words\n");
  refuses(words, 1, {"merges.txt"});
  fs::remove(folder_ / "aquila/merges.txt");
  refuses(words, 1, {"merges.txt"});
}

TEST_F(BadInput, DamagedConfigurationsAndPrompts) {
  for (const char* yaml : {"a: [1, 2", "a: b: c", "\t- x", "a: \"open", "a: 1\na: 2"}) {
    write("broken/c.yaml", std::string("ok: 1\n") + yaml + "\n");
    refuses({"config", "show", "--config-path", "broken", "--config-name", "c"}, 2, {"c.yaml"});
  }
  must(training("prompts", {"train.model.train_iters=2", "train.model.eval_iters=0"}));
  for (const char* line :
       {"{\"prompt\": ", "[1, 2]", "{\"prompt\": 3}", "{\"nothing\": \"x\"}", "{\"messages\": \"x\"}"}) {
    write("p.jsonl", std::string("{\"prompt\": \"ok\"}\n") + line + "\n");
    refuses({"generate", "prompts/checkpoints", "--prompts", "p.jsonl"}, 2, {"p.jsonl:2"});
  }
}

TEST_F(BadInput, PromptsSayWhichLineAndWhatOfIt) {
  must(training("chat", {"train.model.train_iters=2", "train.model.eval_iters=0"}));
  for (const auto& [line, says] : std::vector<std::pair<std::string, std::string>>{
           {"{\"prompt\": \"caf\xe9\"}", "p.jsonl:1: not valid UTF-8"},
           {"{\"prompt\": \"open", "p.jsonl:1: not JSON: syntax error"},
           {"{\"messages\": [{\"role\": \"user\"}]}", "p.jsonl:1: messages[0].content is missing"},
           {"{\"messages\": [{\"content\": \"x\"}]}", "p.jsonl:1: messages[0].role must be a string"},
           {"{\"messages\": [\"x\"]}", "p.jsonl:1: messages[0] must be an object"},
           {"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}",
            "p.jsonl:1: messages[0].content: parts of type 'image_url' are not supported"},
           {"{\"prompt\": \"x\", \"max_tokens\": 3}", "p.jsonl:1: \"max_tokens\" is no key of a prompt"},
           {"{\"promt\": \"x\"}", "did you mean \"prompt\"?"},
           {"{\"prompt\": \"x\", \"messages\": []}", "p.jsonl:1: both \"prompt\" and \"messages\""}}) {
    write("p.jsonl", line + "\n");
    refuses({"generate", "chat/checkpoints", "--prompts", "p.jsonl"}, 2, {says});
  }
}

TEST_F(BadInput, TheWrongFileSaysWhatTheRightOneIs) {
  refuses({"generate", "text.txt", "--prompt", "x"}, 1, {"text.txt is no GGUF file", "Hugging Face folder"});
  refuses({"checkpoint", "inspect", "text.txt"}, 1, {"text.txt is none of", "a .gguf file"});
  const Words preprocess{"data",        "preprocess", "--input",        "text.txt",
                         "--tokenizer", "tokenizer",  "--output-prefix"};
  Words json = preprocess, nowhere = preprocess;
  json.emplace_back("wrong");
  refuses(json, 2, {"text.txt:1: not JSON", "add --plain-text"});
  for (const auto& entry : fs::directory_iterator(folder_))
    EXPECT_FALSE(entry.path().filename().string().starts_with("wrong")) << entry.path() << " was left";
  nowhere.insert(nowhere.end(), {"nodir/p1", "--plain-text"});
  refuses(nowhere, 1, {"the folder nodir of the output prefix nodir/p1 does not exist"});
  for (const auto& [config, says] : std::vector<std::pair<std::string, std::string>>{
           {"[]", "hf_wrong: config.json is not a JSON object"},
           {"{\"model_type\": \"mamba\"}", "hf_wrong: model_type 'mamba' is not supported"}}) {
    write("hf_wrong/config.json", config);
    refuses({"generate", "hf_wrong", "--prompt", "x"}, 1, {says});
  }
}

TEST_F(BadInput, AFolderSaysThatAFileIsWanted) {
  fs::create_directories(folder_ / "folder");
  copy("model/qwen2_tied", "some_hf");
  refuses({"score", "some_hf", "--tokenizer", "tokenizer", "--text", "folder"}, 2,
          {"--text folder is a folder"});
  refuses({"generate", "some_hf", "--prompts", "folder"}, 2, {"--prompts folder is a folder", "JSON lines"});
  refuses({"checkpoint", "import", "some_hf", "imported"}, 2, {"some_hf is a folder, not a .gguf file"});
  refuses({"generate", "some_hf", "--tokenizer", "tokenizer", "--prompt", ""}, 2,
          {"--prompt: the prompt is empty"});
  for (const char* file : {"text_text_document.bin", "text_text_document.idx"})
    EXPECT_EQ(must({"data", "inspect", file}).out, must({"data", "inspect", "text_text_document"}).out);
}

// A perplexity of no token is no number.
TEST_F(BadInput, NothingToScore) {
  must(training("unscored", {"train.model.train_iters=2", "train.model.eval_iters=0"}));
  write("one.txt", "a");
  write("one.jsonl", "{\"prompt\": \"a\"}\n");
  const Words text{"score", "unscored/checkpoints", "--text", "one.txt"};
  for (const char* more : {"--json", "--second-half"}) {
    Words words = text;
    words.emplace_back(more);
    refuses(words, 2, {"nothing to score: one.txt has 1 token, "});
  }
  refuses(text, 2, {"nothing to score: one.txt has 1 token, and those after the first 1 count"});
  Words prompts{"score", "unscored/checkpoints", "--prompts", "one.jsonl"};
  EXPECT_EQ(must(prompts).out, "0 tokens scored: the first has no score\n");
  prompts.emplace_back("--json");
  EXPECT_TRUE(nlohmann::json::parse(must(prompts).out).at("perplexity").is_null());
}

TEST_F(BadInput, ATokenizerThatStopsEarlySaysSo) {
  write("little.txt", "abc abc abc\n");
  const Result result =
      must({"data", "train-tokenizer", "--input", "little.txt", "--vocab-size", "900", "--output", "little"});
  EXPECT_NE(result.err.find("ids instead of 900"), std::string::npos) << result.err;
  refuses({"data", "train-tokenizer", "--input", "little.txt", "--min-frequency", "-1", "--output", "little"},
          2, {"--min-frequency"});
}

TEST_F(BadInput, AFolderNamedLikeAnExampleIsNotTheModel) {
  fs::create_directories(folder_ / "named/aquila");
  fs::create_directory_symlink(FLAGSCALE_SOURCE_DIR "/examples", folder_ / "named/examples");
  const Result result = run(
      {"train", "aquila", "data_path=../text_text_document", "tokenizer_path=../tokenizer", "action=dryrun"},
      folder_ / "named");
  EXPECT_EQ(result.code, 0) << result.err;
}

// An example's checkpoints are where its training saves, and every folder of examples counts.
TEST_F(BadInput, ExamplesOfTheirOwn) {
  write("own/examples/mine/conf/train.yaml",
        "experiment: {exp_dir: out}\ntrain: {system: {checkpoint: {save: kept}}, model: {}, data: {}}\n");
  const Result untrained = run({"generate", "mine", "--prompt", "x"}, folder_ / "own");
  EXPECT_NE(untrained.err.find("(kept does not exist)"), std::string::npos) << untrained.err;
  EXPECT_EQ(run({"completion", "--list", "examples"}, folder_ / "own").out,
            "aquila\nllama3\nmine\nmixtral\nqwen2_5\nqwen3\nsmollm2\nspeed\n");
}

TEST_F(BadInput, ValidateRefusesWhatRunRefuses) {
  Words words = training("validated", {});
  words.erase(words.begin());
  words.insert(words.begin(), {"config", "validate", "--json"});
  EXPECT_TRUE(nlohmann::json::parse(must(words).out).at("valid").get<bool>());
  for (const auto& [override_, says] : std::vector<std::pair<std::string, std::string>>{
           {"action=bogus", "action is 'bogus'"},
           {"train.data.split=abc", "train.data.split"},
           {"experiment.task.backend=quux", "experiment.task.backend is 'quux', which is no backend"},
           {"experiment.exp_dir=null", "experiment.exp_dir is null"},
           {"train.model.hidden_size=63", "hidden_size 63"}}) {
    Words wrong = words, ran = training("validated", {override_});
    wrong.push_back(override_);
    const Result result = run(wrong, folder_), running = run(ran, folder_);
    EXPECT_EQ(result.code, running.code) << override_ << running.err;
    EXPECT_NE(result.code, 0);
    const auto json = nlohmann::json::parse(result.out, nullptr, false);
    ASSERT_TRUE(json.is_object()) << result.out << result.err;
    EXPECT_FALSE(json["valid"].get<bool>());
    for (const std::string& text : {json["error"].get<std::string>(), running.err})
      EXPECT_NE(text.find(says), std::string::npos) << text;
  }
}

TEST_F(BadInput, ADryRunRefusesWhatItsRanksRefuse) {
  for (const char* action : {"dryrun", "run"}) {
    const Result result =
        run(training("even", {"++experiment.runner.nproc_per_node=2", "train.model.micro_batch_size=8",
                              "train.model.global_batch_size=8", std::string("action=") + action}),
            folder_);
    EXPECT_NE(result.code, 0) << action;
    EXPECT_NE(result.err.find("global_batch_size 8 is not a multiple of micro_batch_size 8 x 2"),
              std::string::npos)
        << action << result.err;
  }
}

TEST_F(BadInput, ValidateKnowsTheKeysOfALaunch) {
  Words words = training("validated", {});
  words.erase(words.begin());
  words.insert(words.begin(), {"config", "validate"});
  for (const auto& [override_, says] : std::vector<std::pair<std::string, std::string>>{
           {"+experiment.runner.hostfle=x", "did you mean 'hostfile'?"},
           {"+experiment.runner.quux=1", "experiment.runner.quux is no key of the runner"},
           {"+experiment.runner.type=shh",
            "override '+experiment.runner.type=shh': experiment.runner.type is"},
           {"+experiment.supervision.on_hng=report", "did you mean 'on_hang'?"},
           {"+acton=run", "did you mean 'action'?"}}) {
    Words wrong = words;
    wrong.push_back(override_);
    refuses(wrong, 2, {says});
  }
}

TEST_F(BadInput, TrainKnowsTheKeysOfALaunch) {
  for (const auto& [override_, says] : std::vector<std::pair<std::string, std::string>>{
           {"+experiment.runner.nproc_per_nod=1", "did you mean 'nproc_per_node'?"},
           {"+experiment.supervision.on_hng=report", "did you mean 'on_hang'?"}}) {
    Words words = training("launched", {});
    words.push_back(override_);
    refuses(words, 2, {says});
  }
}

TEST_F(BadInput, ADamagedTrackerOffersTheNewestWholeCheckpoint) {
  copy("io/checkpoints", "tracked");
  for (const char* text : {"", "garbage\n", "12x"}) {
    write("tracked/latest_checkpointed_iteration.txt", text);
    refuses({"checkpoint", "inspect", "tracked"}, 1,
            {"latest_checkpointed_iteration.txt",
             "the newest whole checkpoint beside it is tracked/iter_0000007"});
  }
}

// What a killed conversion left is removed by the next one to the same place; a running one's is not.
TEST_F(BadInput, LeftoversOfAKilledImportAreRemoved) {
  copy("io/llama.gguf", "killed/llama.gguf");
  const pid_t dead = fork();
  if (dead == 0) _exit(0);
  waitpid(dead, nullptr, 0);
  const std::string stale = "killed/imported." + std::to_string(dead) + ".tmp";
  const std::string alive = "killed/imported." + std::to_string(getpid()) + ".tmp";
  write(stale + "/model.safetensors", "half");
  write(alive + "/model.safetensors", "half");
  must({"checkpoint", "import", "killed/llama.gguf", "killed/imported"});
  EXPECT_FALSE(fs::exists(folder_ / stale));
  EXPECT_TRUE(fs::exists(folder_ / alive));
}

TEST_F(BadInput, TextThatIsNotUtf8) {
  write("latin.txt", "caf\xe9 au lait\n");
  write("latin.jsonl", "{\"text\": \"fine\"}\n{\"text\": \"caf\xe9\"}\n");
  const Words to{"--tokenizer", "tokenizer", "--output-prefix", "latin"};
  const auto with = [&](Words words) {
    words.insert(words.end(), to.begin(), to.end());
    return words;
  };
  refuses(with({"data", "preprocess", "--input", "latin.txt", "--plain-text"}), 2, {"latin.txt:1", "UTF-8"});
  refuses(with({"data", "preprocess", "--input", "latin.jsonl"}), 2, {"latin.jsonl:2", "UTF-8"});
  EXPECT_FALSE(fs::exists(folder_ / "latin_text_document.idx"));
  refuses({"data", "train-tokenizer", "--input", "latin.txt", "--vocab-size", "300", "--output",
           "latin_tokenizer"},
          2, {"latin.txt", "UTF-8"});
  EXPECT_FALSE(fs::exists(folder_ / "latin_tokenizer/tokenizer.json"));
  write("latin/c.yaml", "name: caf\xe9\n");
  refuses({"config", "show", "--config-path", "latin", "--config-name", "c"}, 2, {"c.yaml", "UTF-8"});
  must(training("utf8", {"train.model.train_iters=2", "train.model.eval_iters=0"}));
  refuses({"generate", "utf8/checkpoints", "--prompt", "caf\xe9"}, 2, {"UTF-8"});
  refuses({"score", "utf8/checkpoints", "--text", "latin.txt"}, 2,
          {"latin.txt: the text is not UTF-8: byte 3"});

  write("wide.txt", std::string("w\0i\0d\0e\0\n\0", 10));
  const Words says{"wide.txt holds NUL bytes: it is likely UTF-16LE", "iconv -f UTF-16LE -t UTF-8"};
  refuses(with({"data", "preprocess", "--input", "wide.txt", "--plain-text"}), 2, says);
  refuses({"data", "train-tokenizer", "--input", "wide.txt", "--vocab-size", "300", "--output", "wide"}, 2,
          says);
  refuses({"score", "utf8/checkpoints", "--text", "wide.txt"}, 2, says);
}

TEST_F(BadInput, DocumentsOfNoLength) {
  std::string lines;
  for (int i = 0; i < 200; ++i)
    lines += i % 2 ? "{\"text\": \"\"}\n" : "{\"text\": \"some words that are tokens of a document\"}\n";
  write("gaps.jsonl", lines);
  must({"data", "preprocess", "--input", "gaps.jsonl", "--tokenizer", "tokenizer", "--output-prefix", "gaps",
        "--append-eod"});
  must(training("gaps", {"data_path=gaps_text_document", "train.model.seq_length=16"}));
  write("void.jsonl", "{\"text\": \"\"}\n{\"text\": \"\"}\n");
  must(
      {"data", "preprocess", "--input", "void.jsonl", "--tokenizer", "tokenizer", "--output-prefix", "void"});
  refuses(training("void", {"data_path=void_text_document"}), 2, {"void_text_document"});
  write("empty.jsonl", "");
  refuses({"data", "preprocess", "--input", "empty.jsonl", "--tokenizer", "tokenizer", "--output-prefix",
           "empty"},
          2, {"no documents"});
  refuses({"data", "train-tokenizer", "--input", "empty.jsonl", "--vocab-size", "300", "--output", "t"}, 2,
          {"text"});
}

// The file is named, the newest whole checkpoint offered, and what the message says works.
TEST_F(BadInput, ADamagedCheckpointIsRefusedAndAnotherOffered) {
  const Words words = training("damaged", {"train.model.train_iters=30", "train.model.eval_iters=0"});
  must(words);
  const std::string whole = contents("damaged/checkpoints/iter_0000030/rank_00000_00000.safetensors");
  const std::string file = "damaged/checkpoints/iter_0000030/rank_00000_00000.safetensors";
  std::string flipped = whole;
  flipped[whole.size() - 1000] = static_cast<char>(flipped[whole.size() - 1000] ^ 1);
  write(file, flipped);
  const Result result = run(words, folder_);
  EXPECT_EQ(result.code, 1) << result.err;
  EXPECT_NE(result.err.find(file), std::string::npos) << result.err;
  std::smatch offer;
  ASSERT_TRUE(
      std::regex_search(result.err, offer, std::regex("\\+\\+train\\.system\\.checkpoint\\.load=[^ )\n]+")))
      << result.err;
  EXPECT_NE(offer.str().find("iter_0000020"), std::string::npos);
  Words taken = words;
  taken.push_back(offer.str());
  must(taken);
  EXPECT_EQ(contents(file), whole) << "not what the whole run came to";
}

}  // namespace
}  // namespace flagscale::e2e
