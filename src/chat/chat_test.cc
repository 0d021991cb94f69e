#include "chat/chat.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "chat/command.h"
#include "serve/server_test_support.h"

namespace flagscale::chat {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

// Says back what it was asked, in pieces of three bytes.
class Echo final : public Model {
 public:
  const std::string& name() const override { return name_; }
  net::Response ask(const std::string& body, const std::function<bool(std::string_view)>& piece) override {
    asked.push_back(Json::parse(body));
    if (!refusal.empty()) {
      piece(refusal);
      return {400, "application/json", ""};
    }
    const auto last = asked.back()["messages"].back()["content"].get<std::string>();
    std::string stream;
    if (!thought.empty()) stream += event({{"reasoning_content", thought}}, nullptr);
    for (const std::string& part : {"**" + last, std::string("**")})
      stream += event({{"content", part}}, nullptr);
    stream += event(Json::object(), "stop") + "data: [DONE]\n\n";
    for (size_t at = 0; at < stream.size(); at += 3)
      if (!piece(std::string_view(stream).substr(at, 3))) break;
    return {200, "text/event-stream", ""};
  }
  std::vector<Json> asked;
  std::string refusal, thought;

 private:
  static std::string event(const Json& delta, const Json& finish) {
    return "data: " +
           Json({{"choices", {{{"index", 0}, {"delta", delta}, {"finish_reason", finish}}}}}).dump() + "\n\n";
  }
  std::string name_ = "echo";
};

class Typed final : public LineReader {
 public:
  explicit Typed(std::vector<Line> lines) : lines_(std::move(lines)) {}
  Line read(const std::string&) override {
    if (next_ == lines_.size()) return {Line::End::kEnd, {}};
    return lines_[next_++];
  }
  bool waiting() override { return pasted && next_ < lines_.size(); }
  bool pasted = false;

 private:
  std::vector<Line> lines_;
  size_t next_ = 0;
};

std::vector<Line> lines(const std::vector<std::string>& texts) {
  std::vector<Line> all;
  for (const std::string& text : texts) all.push_back({Line::End::kLine, text});
  return all;
}

std::string shown(Model& model, const std::vector<std::string>& texts, const Screen& screen = {}) {
  Typed typed(lines(texts));
  ::testing::internal::CaptureStdout();
  run_chat(model, {}, typed, screen);
  return ::testing::internal::GetCapturedStdout();
}

const Screen kTerminal{.prompts = true, .markdown = true};

TEST(Chat, EachLineOfAPipeIsATurnInPlainText) {
  Echo echo;
  EXPECT_EQ(shown(echo, {"Hello", "", "And you?"}), "**Hello**\n**And you?**\n");
  ASSERT_EQ(echo.asked.size(), 2u);
  EXPECT_EQ(echo.asked[0]["model"], "echo");
  EXPECT_EQ(echo.asked[0]["stream"], true);
  EXPECT_EQ(
      echo.asked[1]["messages"],
      Json::parse(R"([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "**Hello**"},
                            {"role": "user", "content": "And you?"}])"));
}

TEST(Chat, ATerminalShowsMarkdownAndThoughtsAside) {
  Echo echo;
  echo.thought = "Hm.";
  EXPECT_EQ(shown(echo, {"Hello"}, kTerminal), "\033[0;2mHm.\033[0m\n\n\033[0;1mHello\033[0m\n\n\n");
  EXPECT_EQ(shown(echo, {"Hello"}), "**Hello**\n");
  EXPECT_EQ(echo.asked[1]["messages"].size(), 1u);
}

TEST(Chat, Commands) {
  Echo echo;
  shown(echo, {"/system Be brief.", "/set temperature 0.2", "/set stop [\"x\"]", "one", "/retry", "/reset",
               "//two", "/etc/passwd is what?", "/set temperature null", "three", "/exit", "never"});
  ASSERT_EQ(echo.asked.size(), 5u);
  EXPECT_EQ(echo.asked[0]["messages"][0], Json({{"role", "system"}, {"content", "Be brief."}}));
  EXPECT_EQ(echo.asked[0]["temperature"], 0.2);
  EXPECT_EQ(echo.asked[0]["stop"], Json({"x"}));
  EXPECT_EQ(echo.asked[1], echo.asked[0]);  // the answer is taken back
  EXPECT_EQ(echo.asked[2]["messages"].size(), 2u);
  EXPECT_EQ(echo.asked[2]["messages"][1]["content"], "/two");
  EXPECT_EQ(echo.asked[3]["messages"].back()["content"], "/etc/passwd is what?");
  EXPECT_FALSE(echo.asked[4].contains("temperature"));
}

TEST(Chat, WrongCommandsSayWhatIsRight) {
  Conversation conversation;
  const auto message = [&](const std::string& line) -> std::string {
    try {
      run_command(line, "m", conversation);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message("/rest"), "there is no /rest: did you mean /reset?; /help lists what there is");
  EXPECT_EQ(message("/set temprature 1"), "there is no setting temprature: did you mean temperature?");
  EXPECT_NE(message("/set temperature hot"), "");
  EXPECT_NE(message("/set top_p 7"), "");
  EXPECT_NE(message("/retry"), "");
  EXPECT_NE(message("/save"), "");
  EXPECT_NE(message("/load /nowhere/at/all"), "");
  EXPECT_TRUE(run_command("/help", "m", conversation).say.find("/retry") != std::string::npos);
  EXPECT_EQ(run_command("/set temperature 0.5", "m", conversation).then, Command::Then::kGoOn);
  EXPECT_EQ(run_command("/set temperature", "m", conversation).say, "temperature 0.5");
}

TEST(Chat, SavesAndLoads) {
  const fs::path path = fs::temp_directory_path() / ("flagscale_chat_" + std::to_string(getpid()) + ".json");
  Conversation conversation;
  conversation.system = "Be brief.";
  conversation.set("top_k", "5");
  conversation.say("user", "a \"quoted\" é");
  conversation.say("assistant", "b");
  conversation.save(path);
  Conversation other;
  other.load(path);
  EXPECT_EQ(other.body("m"), conversation.body("m"));
  std::ofstream(path) << R"([{"role": "user", "content": "bare"}])";
  other.load(path);
  EXPECT_EQ(other.messages.size(), 1u);
  EXPECT_TRUE(other.system.empty());
  const std::string before = other.body("m");
  for (const std::string bad :
       {"", "{", "{}", "[1]", "{\"messages\": 3}", R"({"messages": [], "settings": {"nothing": 1}})",
        R"([{"role": "user", "content": {"a": 1}}])"}) {
    std::ofstream(path, std::ios::trunc) << bad;
    EXPECT_THROW(other.load(path), Error) << bad;
    EXPECT_EQ(other.body("m"), before);
  }
  fs::remove(path);
}

TEST(Chat, SeveralLines) {
  Echo echo;
  shown(echo, {"\"\"\"first", "second", "third\"\"\"", "\"\"\"one line\"\"\""});
  EXPECT_EQ(echo.asked[0]["messages"][0]["content"], "first\nsecond\nthird");
  EXPECT_EQ(echo.asked[1]["messages"].back()["content"], "one line");
  Typed pasted(lines({"a", "b", "c"}));
  pasted.pasted = true;
  ::testing::internal::CaptureStdout();
  run_chat(echo, {}, pasted, kTerminal);
  ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(echo.asked[2]["messages"][0]["content"], "a\nb\nc");
}

TEST(Chat, ARefusalLeavesThePromptAndEndsAScript) {
  Echo echo;
  echo.refusal = R"({"error": {"message": "too long", "type": "x", "param": null, "code": null}})";
  EXPECT_EQ(shown(echo, {"one", "two", "/retry"}, {.prompts = true}), "too long\ntoo long\ntoo long\n\n");
  EXPECT_EQ(echo.asked[1]["messages"].size(), 1u);  // "two" takes the place of "one"
  EXPECT_EQ(echo.asked[2]["messages"][0]["content"], "two");
  Typed typed(lines({"one", "two"}));
  EXPECT_THROW(run_chat(echo, {}, typed, {}), Error);
}

// Answers with what it is given, whatever that is.
class Canned final : public Model {
 public:
  explicit Canned(std::string text) : text_(std::move(text)) {}
  const std::string& name() const override { return text_; }
  net::Response ask(const std::string&, const std::function<bool(std::string_view)>& piece) override {
    piece(text_);
    return {200, "", ""};
  }

 private:
  std::string text_;
};

TEST(Chat, AnAnswerThatBreaksOffIsAnError) {
  const std::string piece = R"(data: {"choices": [{"delta": {"content": "half"}}]})"
                            "\n\n";
  const std::string broken = piece + R"(data: {"error": {"message": "the engine died"}})" + "\n\n";
  for (const std::string& text :
       {piece, broken, std::string(), std::string("data: {\n\n"), std::string("<html>")}) {
    Canned model(text);
    Typed typed(lines({"one"}));
    ::testing::internal::CaptureStdout();
    EXPECT_THROW(run_chat(model, {}, typed, {}), Error) << text;
    EXPECT_EQ(::testing::internal::GetCapturedStdout(), text.starts_with(piece) ? "half\n" : "");
  }
  Canned done(piece + "data: [DONE]\n\n");
  EXPECT_EQ(shown(done, {"one"}), "half\n");
  Canned whole(R"({"choices": [{"message": {"content": "not streamed"}, "finish_reason": "stop"}]})");
  EXPECT_EQ(shown(whole, {"one"}), "not streamed\n");
}

TEST(Chat, TwoStopsAtThePromptEndIt) {
  Echo echo;
  Typed typed({{Line::End::kStopped, ""},
               {Line::End::kLine, "a"},
               {Line::End::kStopped, ""},
               {Line::End::kStopped, ""},
               {Line::End::kLine, "never"}});
  ::testing::internal::CaptureStdout();
  run_chat(echo, {}, typed, {.prompts = true});
  ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(echo.asked.size(), 1u);
}

TEST(Chat, AServerWithAKey) {
  serve::ServiceConfig config;
  config.api_key = {"secret"};
  serve::testing::TestServer server(config);
  const std::string url = server.server().url();
  for (const std::string end : {"", "/", "/v1", "/v1/"}) {
    const auto model = server_model({url + end, "secret", ""});
    EXPECT_EQ(model->name(), "scripted");
    std::string text;
    const Answer answer = ask(
        *model, serve::testing::chat("<think>\nHm.\n</think>\n\nYes.", {{"stream", true}}).dump(),
        {[](const std::string&) {}, [&](const std::string& part) { text += part; }, [] { return false; }});
    EXPECT_EQ(text, "Yes.");
    EXPECT_EQ(answer.content, "Yes.");
    EXPECT_EQ(answer.finish, "stop");
  }
  EXPECT_THROW(server_model({url, "", ""}), Error);
  EXPECT_THROW(server_model({"http://127.0.0.1:1/v1", "", ""}), Error);
}

TEST(Chat, StopsAServersAnswer) {
  serve::testing::TestServer server;
  *server.step_ms = 20;
  const auto model = server_model({server.server().url(), "", ""});
  int parts = 0;
  const std::string body = serve::testing::chat(std::string(300, 'a'), {{"stream", true}}).dump();
  const Answer answer =
      ask(*model, body,
          {[](const std::string&) {}, [&](const std::string&) { ++parts; }, [&] { return parts > 2; }});
  EXPECT_TRUE(answer.stopped);
  EXPECT_LT(answer.content.size(), 100u);
  *server.step_ms = 2000;  // silent: it is asked meanwhile
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(
      ask(*model, body, {[](const std::string&) {}, [](const std::string&) {}, [] { return true; }}).stopped);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(1500));
}

}  // namespace
}  // namespace flagscale::chat
