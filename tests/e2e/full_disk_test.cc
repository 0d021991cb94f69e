// A disk that is full, a folder that may not be written: an error that names the file, the old files as they
// were, and nothing half beside them.

#include <unistd.h>

#include <fstream>
#include <regex>
#include <sstream>

#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

struct Case {
  Words words;             // writes into the folder "full"
  std::string says;        // of the error
  std::string whole = {};  // what may be there afterwards
};

class FullDisk : public Workshop {
 protected:
  static void SetUpTestSuite() {
    Workshop::SetUpTestSuite();
    must(training("made", {"train.model.train_iters=10", "train.model.eval_iters=0"}));
  }

  // What fails there has more to write than 64 KiB.
  static std::vector<Case> cases() {
    const std::string gguf = FLAGSCALE_SOURCE_DIR "/tests/golden/io/llama.gguf";
    return {
        {training("full", {"train.model.eval_iters=0"}), "full/checkpoints/iter_0000010"},
        {{"data", "preprocess", "--input", "text.txt", "--plain-text", "--tokenizer", "tokenizer",
          "--output-prefix", "full/t"},
         "full/t"},
        {{"data", "train-tokenizer", "--input", "text.txt", "--vocab-size", "4000", "--output", "full/tok"},
         "full/tok"},
        {{"checkpoint", "export", "made/checkpoints", "full/hf"}, "full/hf"},
        {{"checkpoint", "import", gguf, "full/imported"}, "full/imported"},
    };
  }

  static std::string line(const Words& words) {
    std::string text = "flagscale";
    for (const std::string& word : words) text += " '" + word + "'";
    return text;
  }

  // Every file below `folder` that a reader would take for whole. A run's copy of its tokenizer is whole.
  static void expect_nothing_half(std::string files, const std::string& command) {
    files = std::regex_replace(files, std::regex("[^\n]*/checkpoints/tokenizer/[^\n]*\\.json\n"), "");
    for (const char* name :
         {".safetensors", "manifest.json", "config.json", "tokenizer.json", ".idx", ".tmp"})
      EXPECT_EQ(files.find(name), std::string::npos) << command << " left\n" << files;
  }
};

TEST_F(FullDisk, OnASmallFileSystem) {
  fs::create_directory(folder_ / "full");
  const Result mounted = shell("unshare -m sh -c 'mount -t tmpfs -o size=64k none full'", folder_);
  if (mounted.code != 0) GTEST_SKIP() << "no right to mount a small file system: " << mounted.err;
  for (const Case& c : cases()) {
    const std::string command = line(c.words);
    write("command.sh", "mount -t tmpfs -o size=64k none full && " + command +
                            "; code=$?; find full -type f; exit $code\n");
    const Result result = shell("unshare -m sh command.sh", folder_);
    EXPECT_EQ(result.code, 1) << command << "\n" << result.out << result.err;
    EXPECT_NE(result.err.find("No space left on device"), std::string::npos) << command << "\n" << result.err;
    EXPECT_NE(result.err.find(c.says), std::string::npos) << command << "\n" << result.err;
    expect_nothing_half(result.out, command);
  }
}

TEST_F(FullDisk, OfEventsCostsNoTraining) {
  fs::create_directory(folder_ / "small");
  const std::string command = line(
      training("beside", {"train.model.train_iters=60", "+train.system.logging.tensorboard_dir=small/events",
                          "train.system.logging.tensorboard_log_interval=1"}));
  write("command.sh", "mount -t tmpfs -o size=8k none small || exit 77\n" + command + "\n");
  const Result result = shell("unshare -m sh command.sh", folder_);
  if (result.code == 77 || result.err.find("unshare") != std::string::npos)
    GTEST_SKIP() << "no right to mount a small file system";
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.err.find("the training goes on without event files"), std::string::npos) << result.err;
  EXPECT_TRUE(fs::exists(folder_ / "beside/checkpoints/iter_0000060"));
}

// The same without any right: files may have 20,000 bytes.
TEST_F(FullDisk, BeyondTheLimitOfAFile) {
  for (const Case& c : cases()) {
    fs::remove_all(folder_ / "full");
    fs::create_directory(folder_ / "full");
    const Result result = run(c.words, Setting{.folder = folder_, .file_limit = 20000});
    EXPECT_EQ(result.code, 1) << line(c.words) << "\n" << result.err;
    EXPECT_NE(result.err.find("File too large"), std::string::npos) << line(c.words) << "\n" << result.err;
    EXPECT_NE(result.err.find(c.says), std::string::npos) << line(c.words) << "\n" << result.err;
    std::string files;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / "full"))
      files += entry.path().string() + "\n";
    expect_nothing_half(files, line(c.words));
  }
}

TEST_F(FullDisk, TheOldCheckpointStays) {
  const std::string shard = "made/checkpoints/iter_0000010/rank_00000_00000.safetensors";
  const std::string before = contents(shard);
  const Result result =
      run(training("made", {"train.model.eval_iters=0"}), Setting{.folder = folder_, .file_limit = 20000});
  EXPECT_EQ(result.code, 1) << result.err;
  EXPECT_EQ(contents(shard), before);
  EXPECT_EQ(contents("made/checkpoints/latest_checkpointed_iteration.txt"), "10\n");
  EXPECT_TRUE(left_aside("made").empty());
  must({"checkpoint", "verify", "made/checkpoints"});
}

TEST_F(FullDisk, WithoutPermission) {
  Setting other{.folder = folder_, .nobody = true};
  FLAGSCALE_NEED_ANOTHER_USER(other);
  fs::remove_all(folder_ / "full");
  fs::create_directory(folder_ / "full");
  fs::permissions(folder_ / "full", fs::perms(0555));
  for (const Case& c : cases()) {
    const Result result = run(c.words, other);
    EXPECT_EQ(result.code, 1) << line(c.words) << "\n" << result.err;
    EXPECT_NE(result.err.find("full"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("ermission denied"), std::string::npos) << line(c.words) << "\n" << result.err;
    EXPECT_TRUE(fs::is_empty(folder_ / "full")) << line(c.words);
  }
  fs::permissions(folder_ / "full", fs::perms(0755));
  for (const char* file : {"text.txt", "text_text_document.bin", "tokenizer/tokenizer.json"}) {
    fs::permissions(folder_ / file, fs::perms(0));
    const Words words = std::string(file) == "text.txt"
                            ? Words{"data", "train-tokenizer", "--input", "text.txt", "--vocab-size",
                                    "300",  "--output",        "full/x"}
                            : training("full/unread", {"action=test"});
    const Result result = run(words, other);
    EXPECT_EQ(result.code, 1) << result.err;
    EXPECT_NE(result.err.find(fs::path(file).filename().string()), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("ermission denied"), std::string::npos) << result.err;
    fs::permissions(folder_ / file, fs::perms(0644));
  }
}

}  // namespace
}  // namespace flagscale::e2e
