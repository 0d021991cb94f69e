// Every `sh` and `console` block of README.md and docs/*.md, in order, in a fresh clone of what is committed:
// what the pages say works. FLAGSCALE_DOCS=REGEX runs those blocks alone whose PAGE.md:LINE it finds,
// FLAGSCALE_DOCS_TREE=FOLDER takes a tree that is there, such as one in which the quickstart has run.

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <regex>
#include <thread>

#include "tests/docs/blocks.h"
#include "tests/e2e/program.h"

namespace flagscale::docs {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = FLAGSCALE_SOURCE_DIR;

// A command of a page that goes on, like `flagscale serve`.
class Server {
  // The shell becomes the program, so that a signal reaches it.
  static inline const std::string kBecomes =
      "exec >server.log 2>&1\nflagscale() { exec \"$(type -P flagscale)\" \"$@\"; }\n";

 public:
  Server(const std::string& command, const fs::path& tree)
      : log_(tree / "server.log"), child_({"bash", "-c", kBecomes + command}, {.folder = tree}) {}
  ~Server() { fs::remove(log_); }  // the next one's must not be taken for it
  std::string log() const { return text_of(log_); }

  // The shown line that has not come after two minutes, or "".
  std::string missing(const std::string& shown) {
    for (int tenths = 0;; ++tenths) {
      std::string line = first_missing(shown, log());
      if (line.empty() || tenths == 1200 || !child_.running()) return line;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  int stop() {
    child_.signal(SIGINT);
    return child_.wait().code;
  }

 private:
  fs::path log_;
  e2e::Child child_;
};

class Docs : public testing::Test {
 protected:
  // The clone takes over what is expensive to make and not in git: packages fetched and the compiler's cache.
  void SetUp() override {
    if (const char* tree = std::getenv("FLAGSCALE_DOCS_TREE")) {
      tree_ = fs::canonical(tree);
      return;
    }
    if (!fs::exists(kSource / ".git")) GTEST_SKIP() << "not a git checkout: nothing to clone";
    clone_ = tree_ = fs::temp_directory_path() / ("flagscale-docs-" + std::to_string(getpid()));
    const auto cloned = e2e::shell("git clone -q '" + kSource.string() + "' '" + tree_.string() + "'");
    ASSERT_EQ(cloned.code, 0) << cloned.err;
    fs::create_directory(kSource / ".deps");
    fs::create_directory_symlink(kSource / ".deps", tree_ / ".deps");
  }
  void TearDown() override {
    if (!clone_.empty()) fs::remove_all(clone_);
  }

  void run_page(const fs::path& page) {
    static const char* filter = std::getenv("FLAGSCALE_DOCS");
    for (const Block& block : blocks(text_of(page))) {
      const std::string where = page.filename().string() + ":" + std::to_string(block.line);
      if (filter && !std::regex_search(where, std::regex(filter))) continue;
      SCOPED_TRACE(where + ":\n" + block.command);
      if (!block.not_run.empty())
        fmt::print("not run: {}: {}\n", where, block.not_run);
      else if (block.server)
        start(block);
      else
        run_block(block);
    }
    stop();
  }

 private:
  void run_block(const Block& block) {
    const auto result =
        e2e::shell("set -e\nexport PATH=" + tree_.string() + "/build:$PATH\n" + block.command, tree_);
    EXPECT_EQ(result.code, 0) << result.out << result.err;
    EXPECT_EQ(first_missing(block.output, result.out + result.err), "") << "is not printed:\n"
                                                                        << result.out << result.err;
  }
  void start(const Block& block) {
    stop();
    server_ = std::make_unique<Server>(block.command, tree_);
    EXPECT_EQ(server_->missing(block.output), "") << "is not printed:\n" << server_->log();
  }
  void stop() {
    if (!server_) return;
    EXPECT_EQ(server_->stop(), 0) << server_->log();
    server_.reset();
  }

 protected:
  fs::path tree_, clone_;
  std::unique_ptr<Server> server_;
};

TEST_F(Docs, SayWhatHappens) {
  // The pages' two long commands, shortened: fewer training steps, and one test program instead of all, this
  // one included.
  setenv("FLAGSCALE_TRAIN_ITERS", "120", 0);
  setenv("FLAGSCALE_CTEST", "-R ^base$", 0);
  setenv("PATH", (tree_.string() + "/build:" + std::getenv("PATH")).c_str(), 1);
  for (const fs::path& page : pages(tree_)) run_page(page);
}

}  // namespace
}  // namespace flagscale::docs
