// `flagscale chat` as someone at a terminal meets it, with a server of this test's own behind it.

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <mutex>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>

#include "net/server.h"
#include "tests/e2e/program.h"

namespace flagscale::e2e {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

// Answers "forever" with words without end, anything else with what was said last, in bold.
class Answerer {
 public:
  Answerer() : server_({}, [this](const std::shared_ptr<net::Exchange>& exchange) { answer(exchange); }) {}
  ~Answerer() {
    stopping_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(server_.port()) + "/v1"; }
  std::vector<Json> asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }
  std::atomic<int> gone{0};

 private:
  static std::string event(const std::string& text) {
    return "data: " + Json({{"choices", {{{"delta", {{"content", text}}}}}}}).dump() + "\n\n";
  }
  void answer(const std::shared_ptr<net::Exchange>& exchange) {
    if (exchange->request().method == "GET")
      return exchange->respond({200, "application/json", R"({"data": [{"id": "answerer"}]})"});
    const std::lock_guard lock(mutex_);
    asked_.push_back(Json::parse(exchange->request().body));
    const auto said = asked_.back()["messages"].back()["content"].get<std::string>();
    exchange->begin({200, "text/event-stream", ""});
    if (said != "forever") {
      exchange->write(event("**" + said) + event("**") + "data: [DONE]\n\n");
      return exchange->end();
    }
    const auto left = std::make_shared<std::atomic<bool>>(false);
    exchange->on_disconnect([this, left] { *left = true, ++gone; });
    threads_.emplace_back([this, exchange, left] {
      while (!*left && !stopping_) {
        exchange->write(event("word "));
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
  }
  mutable std::mutex mutex_;
  std::vector<Json> asked_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stopping_{false};
  net::Server server_;
};

class Terminal {
 public:
  explicit Terminal(const std::vector<std::string>& words) {
    child_ = forkpty(&side_, nullptr, nullptr, nullptr);
    if (child_ < 0) throw std::system_error(errno, std::generic_category(), "no terminal");
    if (child_ != 0) return;
    setenv("TERM", "xterm", 1);
    setenv("LC_ALL", "C", 1);
    unsetenv("NO_COLOR");
    std::vector<std::string> all = program(words);
    std::vector<char*> raw;
    for (std::string& word : all) raw.push_back(word.data());
    raw.push_back(nullptr);
    execvp(raw[0], raw.data());
    _exit(127);
  }
  ~Terminal() {
    if (!ended_) kill(child_, SIGKILL), waitpid(child_, nullptr, 0);
    close(side_);
  }
  void type(const std::string& keys) const {
    EXPECT_EQ(write(side_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  // All of the output until `text` has come after what was seen before.
  bool sees(const std::string& text, int seconds = 60) {
    const auto deadline = Clock::now() + std::chrono::seconds(seconds);
    while (output_.find(text, seen_) == std::string::npos)
      if (Clock::now() > deadline || !read_some()) return false;
    seen_ = output_.find(text, seen_) + text.size();
    return true;
  }
  int wait() {
    const auto deadline = Clock::now() + std::chrono::seconds(60);
    int status = 0;
    while (waitpid(child_, &status, WNOHANG) == 0) {
      if (Clock::now() > deadline) return -1;
      read_some();
    }
    ended_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  const std::string& output() const { return output_; }

 private:
  bool read_some() {
    pollfd one{side_, POLLIN, 0};
    if (poll(&one, 1, 50) <= 0) return true;
    char space[4096];
    const ssize_t got = read(side_, space, sizeof space);
    if (got > 0) output_.append(space, static_cast<size_t>(got));
    return got > 0;
  }
  int side_ = -1;
  pid_t child_ = -1;
  bool ended_ = false;
  std::string output_;
  size_t seen_ = 0;
};

const std::string kBoldHello = "\033[0;1mHello é\033[0m";

TEST(ChatTerminal, StreamsRendersStopsAndEnds) {
  Answerer answerer;
  Terminal terminal({"chat", answerer.url()});
  ASSERT_TRUE(terminal.sees("answerer")) << terminal.output();
  ASSERT_TRUE(terminal.sees("> "));
  terminal.type("Hello é\r");
  ASSERT_TRUE(terminal.sees(kBoldHello)) << terminal.output();
  ASSERT_TRUE(terminal.sees("> "));
  terminal.type("/set temperature 0.2\r");
  ASSERT_TRUE(terminal.sees("> "));
  terminal.type("forever\r");
  ASSERT_TRUE(terminal.sees("word word")) << terminal.output();
  terminal.type("\x03");  // stops the answer alone
  ASSERT_TRUE(terminal.sees("Stopped.")) << terminal.output();
  ASSERT_TRUE(terminal.sees("> "));
  for (int i = 0; i < 100 && answerer.gone == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(answerer.gone, 1);
  terminal.type("\x1b[A\x1b[A\x1b[A\r");  // three lines back: Hello again
  ASSERT_TRUE(terminal.sees(kBoldHello)) << terminal.output();
  const std::vector<Json> asked = answerer.asked();
  ASSERT_EQ(asked.size(), 3u);
  EXPECT_EQ(asked[2]["temperature"], 0.2);
  EXPECT_EQ(asked[2]["messages"].size(), 5u);
  ASSERT_TRUE(terminal.sees("> "));
  terminal.type("half a li\x03");
  ASSERT_TRUE(terminal.sees("Ctrl-C again")) << terminal.output();
  ASSERT_TRUE(terminal.sees("> "));
  terminal.type("\x03");
  EXPECT_EQ(terminal.wait(), 0);
}

TEST(ChatTerminal, CtrlDAndExitEndIt) {
  Answerer answerer;
  for (const std::string keys : {"\x04", "/exit\r"}) {
    Terminal terminal({"chat", answerer.url()});
    ASSERT_TRUE(terminal.sees("> "));
    terminal.type(keys);
    EXPECT_EQ(terminal.wait(), 0) << keys;
  }
}

TEST(ChatTerminal, APipeGetsPlainText) {
  Answerer answerer;
  const Result result = shell("printf 'one\\ntwo' | flagscale chat " + answerer.url());
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "**one**\n**two**\n");
  const Result nobody = shell("echo hi | flagscale chat http://127.0.0.1:1/v1");
  EXPECT_EQ(nobody.code, 1);
  EXPECT_NE(nobody.err.find("cannot reach 127.0.0.1:1"), std::string::npos) << nobody.err;
}

}  // namespace
}  // namespace flagscale::e2e
