// The command line itself: help, versions, mistakes, completion.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "tests/e2e/program.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;

// The commands that the sources register.
std::vector<std::string> registered() {
  static const std::regex kCommand("Registration<Command>\\s+k\\w+\\{\\s*\"([^\"]+)\"");
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(FLAGSCALE_SOURCE_DIR "/src/app")) {
    if (!entry.path().filename().string().ends_with("_command.cc")) continue;
    std::ifstream in(entry.path());
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    std::smatch match;
    EXPECT_TRUE(std::regex_search(text, match, kCommand)) << entry.path() << " registers no command";
    if (!match.empty()) names.push_back(match[1]);
  }
  return names;
}

// `flagscale WORDS --help`, and that of every nested command.
void expect_examples(const std::vector<std::string>& words, int depth = 0) {
  std::vector<std::string> help = words;
  help.push_back("--help");
  const Result result = run(help);
  std::string name = "flagscale";
  for (const std::string& word : words) name += " " + word;
  EXPECT_EQ(result.code, 0) << name << result.err;
  const size_t examples = result.out.find("Examples:\n");
  EXPECT_NE(examples, std::string::npos) << name << " --help shows no example";
  std::istringstream shown(examples == std::string::npos ? "" : result.out.substr(examples + 10));
  for (std::string line; std::getline(shown, line) && line.starts_with("  ");)
    EXPECT_NE((line + " ").find(name + " "), std::string::npos)
        << name << " --help shows another's: " << line;
  const size_t nested = result.out.find("\nSubcommands:\n");
  if (nested == std::string::npos || depth > 3) return;
  std::istringstream lines(result.out.substr(nested + 14));
  for (std::string line; std::getline(lines, line) && line.starts_with("  ");) {
    if (line[2] == ' ') continue;  // a description that goes on
    std::vector<std::string> below = words;
    below.push_back(line.substr(2, line.find(' ', 2) - 2));
    expect_examples(below, depth + 1);
  }
}

TEST(CommandLine, ListsEveryRegisteredCommand) {
  const Result result = run({"--help"});
  ASSERT_EQ(result.code, 0);
  ASSERT_FALSE(registered().empty());
  for (const std::string& name : registered())
    EXPECT_NE(result.out.find("\n  " + name + " "), std::string::npos) << name << " in\n" << result.out;
}

TEST(CommandLine, EveryHelpHasExamples) { expect_examples({}); }

double seconds_of_children() {
  rusage use{};
  getrusage(RUSAGE_CHILDREN, &use);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

TEST(CommandLine, AnswersHelpAtOnce) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers make every start slow";
#endif
  run({"--help"});
  double best = 1e9;  // of processor time, which other programs do not lengthen
  for (int i = 0; i < 5; ++i) {
    const double before = seconds_of_children();
    run({"--help"});
    best = std::min(best, seconds_of_children() - before);
  }
  EXPECT_LT(best, 0.020);
}

TEST(CommandLine, PrintsItsVersion) {
  const Result result = run({"--version"});
  EXPECT_EQ(result.code, 0);
  EXPECT_TRUE(std::regex_match(result.out, std::regex("flagscale \\d+\\.\\d+\\.\\d+\n"))) << result.out;
}

TEST(CommandLine, NamesTheNearestCommandAndOption) {
  Result result = run({"compeltion"});
  EXPECT_EQ(result.code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("did you mean \"completion\"?"), std::string::npos) << result.err;
  result = run({"completion", "--hlep"});
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("did you mean \"--help\"?"), std::string::npos) << result.err;
}

TEST(CommandLine, NumbersOutsideTheRangeOfAFlagAreNamedWithIt) {
  for (const auto& [words, says] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"generate", "m", "--seed", "-1"},
            "--seed: '-1' is not a whole number from 0 to 18446744073709551615"},
           {{"generate", "m", "--seed", "99999999999999999999"},
            "--seed: '99999999999999999999' is not a whole"},
           {{"generate", "m", "--seed", "1.5"}, "--seed: '1.5' is not a whole number"},
           {{"generate", "m", "--max-tokens", "-1"},
            "--max-tokens: '-1' is not a whole number from 1 to 1048576"},
           {{"generate", "m", "--temperature", "nan"}, "--temperature: 'nan' is not a number from 0 to 100"},
           {{"data", "train-tokenizer", "--input", "x", "--output", "y", "--vocab-size", "many"},
            "--vocab-size: 'many' is not a whole number from 256 to 16777215"},
           {{"data", "train-tokenizer", "--input", "x", "--output", "y", "--vocab-size", "-1"},
            "--vocab-size: '-1' is not a whole number from 256"},
           {{"data", "train-tokenizer", "--input", "x", "--output", "y", "--vocab-size", "99999999999"},
            "--vocab-size: '99999999999' is not a whole number from 256"},
           {{"bench", "serve", "--top-p", "7"}, "--top-p: '7' is not a number from 1e-09 to 1"},
           {{"bench", "serve", "--temperature", "-1"}, "--temperature: '-1' is not a number from 0"},
           {{"bench", "serve", "--top-k", "-3"}, "--top-k: '-3' is not a whole number from -1"},
           {{"bench", "serve", "--random-range-ratio", "2"}, "--random-range-ratio must be in [0, 1), got 2"},
           {{"bench", "serve", "--request-rate", "-1"}, "--request-rate must be above 0, got -1"},
           {{"bench", "serve", "--extra-body", "[]"}, "--extra-body is no JSON object: []"},
           {{"bench", "serve", "--seed", "-1"}, "--seed: '-1' is not a whole number from 0"},
           {{"bench", "serve", "--top-p", "nan"}, "--top-p: 'nan' is not a number"},
           {{"logs", "x", "--lines", "-1"}, "--lines: '-1' is not a whole number from 0"}}) {
    const Result result = run(words);
    EXPECT_EQ(result.code, 2) << says;
    EXPECT_NE(result.err.find(says), std::string::npos) << result.err;
  }
}

TEST(CommandLine, WordsOfATrainingInAnotherOrderAreNamed) {
  for (const auto& [words, says] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"my.yaml"}, "my.yaml is a YAML, where MODEL comes first"},
           {{"my.yaml", "some_hf"}, "`flagscale train some_hf my.yaml`"},
           {{"m", "a.b=1", "u16.yaml"},
            "u16.yaml comes too late: one YAML comes before the overrides, `flagscale train m u16.yaml"},
           {{"m", "one.yaml", "two.yaml"}, "two.yaml comes too late: one YAML"}}) {
    std::vector<std::string> all{"train"};
    all.insert(all.end(), words.begin(), words.end());
    const Result result = run(all);
    EXPECT_EQ(result.code, 2) << says;
    EXPECT_NE(result.err.find(says), std::string::npos) << result.err;
  }
}

// What bash offers for the last of the words typed.
std::string completed(const std::string& words) {
  const Result result = shell("source <(flagscale completion bash)\nCOMP_WORDS=(" + words +
                              ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _flagscale; echo ${COMPREPLY[@]}");
  return result.out + result.err;
}

TEST(CommandLine, CompletesInBash) {
  EXPECT_EQ(completed("flagscale compl"), "completion\n");
  EXPECT_EQ(completed("flagscale config ex"), "explain\n");
  EXPECT_EQ(completed("flagscale completion --h"), "--help\n");
  EXPECT_EQ(completed("flagscale completion ba"), "bash\n");
  EXPECT_EQ(completed("flagscale train --action dry"), "dryrun\n");
  EXPECT_EQ(completed("flagscale train aqu"), "aquila\n");
  EXPECT_EQ(completed("flagscale config explain rotary_b"), "rotary_base\n");
  EXPECT_EQ(completed("flagscale config explain train.model.rotary_b"), "train.model.rotary_base\n");
  EXPECT_NE((" " + completed("flagscale config explain tra")).find(" train. "), std::string::npos);
  EXPECT_EQ(completed("flagscale train ''"), "aquila llama3 mixtral qwen2_5 qwen3 smollm2 speed\n");
  EXPECT_EQ(completed("flagscale train aquila train.mo"), "train.model.\n");
  EXPECT_EQ(completed("flagscale train aquila ++train.model.optimizer.adam_b"),
            "++train.model.optimizer.adam_beta1 ++train.model.optimizer.adam_beta2\n");
  EXPECT_EQ(completed("flagscale run train.system.save_int"), "train.system.save_interval\n");
  EXPECT_EQ(completed("flagscale train aquila READ"), "\n") << "files are left to bash";
  EXPECT_EQ(completed("flagscale data preprocess --input READ"), "\n") << "files are left to bash";
  EXPECT_EQ(completed("flagscale run --config-path ex"), "\n") << "a folder, not experiment.";
  EXPECT_EQ(completed("flagscale generate --prompts ''"), "\n") << "a file, not an example";
  EXPECT_EQ(completed("flagscale generate --json aqu"), "aquila\n") << "a flag takes no value";
  EXPECT_EQ(completed("flagscale models fetch ''"), "\n") << "examples are not on the hub";
}

TEST(CommandLine, CompletesInZsh) {
  if (shell("command -v zsh").code != 0) GTEST_SKIP() << "no zsh here";
  // What is typed, and what Tab makes of it.
  const std::vector<std::pair<std::string, std::string>> cases{
      {"compl", "completion "},
      {"config ex", "config explain "},
      {"completion --h", "completion --help "},
      {"completion ba", "completion bash "},
      {"train --action dry", "train --action dryrun "},
      {"train aqu", "train aquila "},
      {"config explain rotary_b", "config explain rotary_base "},
      {"config explain train.model.rotary_b", "config explain train.model.rotary_base "},
      {"train aquila train.mo", "train aquila train.model."},
      {"train aquila ++train.model.optimizer.adam_b", "train aquila ++train.model.optimizer.adam_beta"},
      {"run train.system.save_int", "run train.system.save_interval "},
      {"train aquila READ", "train aquila README.md "},
      {"run --config-path exampl", "run --config-path examples/"},
      {"generate --prompts READ", "generate --prompts README.md "},
      {"data preprocess --input READ", "data preprocess --input README.md "}};
  std::string command = "zsh -f tests/e2e/completed.zsh", expected;
  for (const auto& [typed, completed] : cases) {
    command += " 'flagscale " + typed + "'";
    expected += "flagscale " + completed + "\n";
  }
  const Result result = shell("timeout 60 " + command, FLAGSCALE_SOURCE_DIR);
  EXPECT_EQ(result.out, expected) << result.err;
}

TEST(CommandLine, CompletesInFish) {
  if (shell("command -v fish").code != 0) GTEST_SKIP() << "no fish here";
  const std::string fish =
      "HOME=/nonexistent fish --no-config -c 'flagscale completion fish | source; for line in $argv; "
      "complete -C "
      "\"flagscale $line\" | string replace -r \"\\t.*\" \"\"; echo .; end'";
  const std::vector<std::pair<std::string, std::string>> cases{
      {"compl", "completion"},
      {"config expl", "explain"},
      {"completion --h", "--help"},
      {"completion ba", "bash"},
      {"train --action dry", "dryrun"},
      {"train aqu", "aquila"},
      {"config explain rotary_b", "rotary_base"},
      {"config explain train.model.rotary_b", "train.model.rotary_base"},
      {"train aquila train.mo", "train.model."},
      {"train aquila ++train.model.optimizer.adam_b",
       "++train.model.optimizer.adam_beta1\n++train.model.optimizer.adam_beta2"},
      {"run train.system.save_int", "train.system.save_interval"},
      {"train aquila READ", "README.md"},
      {"run --config-path exampl", "examples/"},
      {"generate --prompts READ", "README.md"},
      {"data preprocess --input READ", "README.md"}};
  std::string command = fish, expected;
  for (const auto& [typed, completed] : cases) {
    command += " '" + typed + "'";
    expected += completed + "\n.\n";
  }
  const Result result = shell(command, FLAGSCALE_SOURCE_DIR);
  EXPECT_EQ(result.out, expected) << result.err;
}

TEST(CommandLine, RefusesAnUnknownShell) {
  const Result result = run({"completion", "tcsh"});
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("bash,zsh,fish"), std::string::npos) << result.err;
}

TEST(CommandLine, SaysThatTheOutputCouldNotBeWritten) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  for (const char* words : {"completion bash", "--help", "--version", "train --help", ""}) {
    const Result result = shell(std::string("flagscale ") + words + " >/dev/full");
    EXPECT_EQ(result.code, 1) << words;
    EXPECT_NE(result.err.find("cannot write"), std::string::npos) << words << ": " << result.err;
  }
}

}  // namespace
}  // namespace flagscale::e2e
