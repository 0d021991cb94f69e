// A plan larger than the memory there is: refused before anything is taken or written, with what would help.
// And a run that fits takes what was planned.

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;

class Memory : public Workshop {
 protected:
  static constexpr int64_t kSmall = 400 << 10;  // KiB: what the plan alone may take

  static std::vector<std::string> suggestions(const std::string& text) {
    static const std::regex kLine("\n  (\\+\\+.*) saves ");
    std::vector<std::string> words;
    for (std::sregex_iterator it(text.begin(), text.end(), kLine), end; it != end; ++it) {
      std::istringstream line((*it)[1]);
      for (std::string word; line >> word;) words.push_back(word);
    }
    return words;
  }

  static double available_gib() {
    std::ifstream facts("/proc/meminfo");
    for (std::string name; facts >> name;) {
      double kib = 0;
      if (name == "MemAvailable:" && facts >> kib) return kib / (1 << 20);
    }
    return 0;
  }

  static double gib_needed(const std::string& text) {
    std::smatch match;
    return std::regex_search(text, match, std::regex("needs ([0-9.]+) GiB, this machine has"))
               ? std::stod(match[1])
               : -1;
  }

  static void expect_refused(std::vector<std::string> words, const std::string& working_folder,
                             const fs::path& exp_dir) {
    const Result result = run(words, working_folder);
    if (result.code == 0) {
      ASSERT_GT(available_gib(), 60) << "it ran, on a machine without the memory for 7 billion parameters";
      GTEST_SKIP() << "this machine has the memory for 7 billion parameters";
    }
    ASSERT_EQ(result.code, 3) << result.err;
    EXPECT_NE(result.err.find("this machine has "), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("weights, gradients and optimizer alone need "), std::string::npos)
        << result.err;
    EXPECT_LT(result.peak_kib, kSmall) << "memory was taken";
    EXPECT_FALSE(fs::exists(exp_dir)) << "something was written";
    const std::vector<std::string> more = suggestions(result.err);
    ASSERT_FALSE(more.empty()) << result.err;
    words.insert(words.end(), more.begin(), more.end());  // as they stand there
    const Result changed = run(words, working_folder);
    EXPECT_EQ(changed.code, 3) << changed.err;
    EXPECT_GT(gib_needed(result.err), gib_needed(changed.err)) << changed.err;
    EXPECT_GT(gib_needed(changed.err), 60) << "of which the fixed part is most: " << changed.err;
  }
};

TEST_F(Memory, OurAquila7BIsRefused) {
  std::vector<std::string> words = configured();
  for (const char* more :
       {"train=7b", "data_path=text_text_document", "tokenizer_path=tokenizer", "experiment.exp_dir=huge"})
    words.emplace_back(more);
  expect_refused(words, folder_, folder_ / "huge");
}

// In a file or a pipe, too.
TEST_F(Memory, ThePlanComesBeforeTheRefusal) {
  std::string command = "flagscale";
  for (const std::string& word :
       training("order", {"train.model.hidden_size=16384", "action=dryrun",
                          "train.model.ffn_hidden_size=655360", "train.model.num_attention_heads=64"}))
    command += " '" + word + "'";
  const std::string said = shell(command + " 2>&1 | cat", folder_).out;
  const size_t plan = said.find("\nplan: "), error = said.find("\nflagscale: error: ");
  ASSERT_NE(error, std::string::npos) << said;
  EXPECT_LT(plan, error) << said;
}

// The same keys as FlagScale's own file for Aquila-7B.
TEST_F(Memory, AnAquila7BAsFlagScaleHasItIsRefused) {
  write_vocabulary_and_merges("examples/aquila/tokenizer");
  write("examples/aquila/tokenizer/special_tokens.txt", "<|LDWANG|>\n");
  const std::vector<std::string> words{"run",
                                       "--config-path",
                                       std::string(FLAGSCALE_SOURCE_DIR) + "/tests/e2e/aquila_7b",
                                       "--config-name",
                                       "train",
                                       "train.data.data_path=text_text_document",
                                       "experiment.exp_dir=like_theirs"};
  expect_refused(words, folder_, folder_ / "like_theirs");
  const fs::path flagscale = FLAGSCALE_SOURCE_DIR "/../shared/flagscale";
  if (!fs::exists(flagscale / "examples/aquila/conf/train.yaml")) return;
  std::vector<std::string> ours = words, theirs = words;
  for (auto* each : {&ours, &theirs}) each->insert(each->end(), {"action=dryrun", "--json"});
  theirs[2] = (flagscale / "examples/aquila/conf").string();
  const Result plan = run(ours, folder_);
  EXPECT_NE(plan.out.find("plan_bytes"), std::string::npos) << plan.err;
  EXPECT_EQ(plan.out, run(theirs, folder_).out);
}

TEST_F(Memory, FlagScalesAquila7BIsRefused) {
  const fs::path flagscale = FLAGSCALE_SOURCE_DIR "/../shared/flagscale";
  if (!fs::exists(flagscale / "examples/aquila/conf/train.yaml")) GTEST_SKIP() << "../shared is not here";
  const std::string exp_dir = (folder_ / "theirs").string();
  expect_refused(
      {"run", "--config-path", "examples/aquila/conf", "--config-name", "train",
       "train.data.data_path=" + (folder_ / "text_text_document").string(), "experiment.exp_dir=" + exp_dir},
      flagscale, exp_dir);
}

TEST_F(Memory, ACgroupsLimitCounts) {
  std::ifstream groups("/proc/self/cgroup");
  fs::path own;
  for (std::string line; std::getline(groups, line);) {
    if (line.starts_with("0::") && fs::exists("/sys/fs/cgroup/cgroup.controllers"))
      own = "/sys/fs/cgroup" + line.substr(3);
    if (const size_t at = line.find(":memory:"); at != std::string::npos)
      own = "/sys/fs/cgroup/memory" + line.substr(at + 8);
  }
  const fs::path group = own / ("flagscale-test-" + std::to_string(getpid()));
  std::error_code error;
  if (own.empty() || !fs::create_directory(group, error)) GTEST_SKIP() << "no right to make a cgroup";
  const bool version2 = fs::exists(group / "memory.max");
  const std::string limit = group / (version2 ? "memory.max" : "memory.limit_in_bytes");
  std::string command =
      "echo 300000000 >" + limit + " && echo $$ >" + (group / "cgroup.procs").string() + " && exec flagscale";
  for (const std::string& word :
       training("group", {"train.model.hidden_size=1024", "train.model.ffn_hidden_size=4096"}))
    command += " '" + word + "'";
  const Result result = shell(command, folder_);
  fs::remove(group, error);
  if (result.err.find("cgroup.procs") != std::string::npos || result.err.find(limit) != std::string::npos)
    GTEST_SKIP() << "no right to use a cgroup: " << result.err;
  EXPECT_EQ(result.code, 3) << result.err;
  EXPECT_TRUE(std::regex_search(result.err, std::regex("this machine has (0\\.[123]|[0-9.]+ M)")))
      << result.err;
  EXPECT_FALSE(fs::exists(folder_ / "group"));
}

// Plan + program + file pages + 32 MB. The program's own pages are those of a run that does nothing.
TEST_F(Memory, ARunStaysWithinThePlan) {
  std::vector<std::string> words =
      training("within", {"train.model.hidden_size=512", "train.model.ffn_hidden_size=1408",
                          "train.model.num_layers=4", "train.model.train_iters=3"});
  const int64_t program = must({"config", "keys"}).peak_kib;
  std::vector<std::string> plan = words;
  plan.insert(plan.end(), {"action=dryrun", "--json"});
  const auto bytes = nlohmann::json::parse(must(plan).out).at("plan_bytes").at("total").get<int64_t>();
  ASSERT_GT(bytes, 200 << 20);
  const auto files = static_cast<int64_t>(fs::file_size(folder_ / "text_text_document.bin") +
                                          fs::file_size(folder_ / "text_text_document.idx"));
  const Result result = must(words);
  EXPECT_LE(result.peak_kib, (bytes + files) / 1024 + program + (32 << 10));
  EXPECT_GE(result.peak_kib, bytes / 1024 / 2) << "the plan is not what is used";
}

}  // namespace
}  // namespace flagscale::e2e
