#include "chat/chat.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"
#include "chat/command.h"
#include "chat/markdown.h"
#include "chat/stop_key.h"

namespace flagscale::chat {

namespace {

constexpr std::string_view kQuotes = "\"\"\"";

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// An answer on its way to the screen; it ends with exactly one line end.
class Output {
 public:
  explicit Output(const Screen& screen) : screen_(screen), markdown_(&print) {}
  void reason(const std::string& text) {
    if (!screen_.prompts) return;  // a script wants the answer
    if (!std::exchange(reasoning_, true) && screen_.markdown) print(sequence({.dim = true}));
    show(without_controls(text));
  }
  void add(const std::string& text) {
    end_reasoning();
    last_ = text.empty() ? last_ : text.back();
    if (screen_.markdown) return markdown_.put(text);
    show(text);
  }
  void finish() {
    end_reasoning();
    if (screen_.markdown) markdown_.finish();
    if (last_ != '\n') print("\n");
  }
  void break_off() {  // what follows stands on a line of its own
    if (last_ != '\0') finish();
  }

 private:
  void show(const std::string& text) {
    if (text.empty()) return;
    last_ = text.back();
    print(text);
  }
  void end_reasoning() {
    if (!std::exchange(reasoning_, false)) return;
    if (screen_.markdown) print(sequence({}));
    print(last_ == '\n' ? "\n" : "\n\n");
  }
  const Screen& screen_;
  MarkdownPrinter markdown_;
  bool reasoning_ = false;
  char last_ = '\0';
};

class Chat {
 public:
  Chat(Model& model, Conversation conversation, LineReader& lines, const Screen& screen)
      : model_(model), conversation_(std::move(conversation)), lines_(lines), screen_(screen) {}

  void run() {
    std::string text;
    while (read(text)) {
      lines_.remember(text);
      if (text.find_first_not_of(" \t\n") == std::string::npos) continue;
      try {
        const Command command = run_command(text, model_.name(), conversation_);
        if (command.then == Command::Then::kEnd) return;
        if (!command.say.empty()) remark(command.say);
        if (command.then == Command::Then::kGoOn) continue;
        if (command.then == Command::Then::kNotOne) say(text.starts_with("//") ? text.substr(1) : text);
        answer();
      } catch (const Error& error) {
        if (!screen_.prompts) throw;
        remark(error.what());
      }
    }
  }

 private:
  // A message or a command; false at the end.
  bool read(std::string& text) {
    while (true) {
      Line line = lines_.read(screen_.prompts ? "> " : "");
      if (line.end == Line::End::kEnd) return end();
      if (line.end == Line::End::kStopped) {
        print("\n");
        if (std::exchange(stopped_once_, true)) return false;
        remark("Ctrl-C again ends the chat, as do Ctrl-D and /exit.");
        continue;
      }
      stopped_once_ = false;
      text = std::move(line.text);
      if (text.starts_with(kQuotes)) return read_quoted(text);
      // A paste of several lines is one message.
      while (lines_.waiting()) {
        line = lines_.read(". ");
        if (line.end != Line::End::kLine) break;
        text += "\n" + line.text;
      }
      return true;
    }
  }
  bool read_quoted(std::string& text) {
    text.erase(0, kQuotes.size());
    while (!text.ends_with(kQuotes)) {
      const Line line = lines_.read(screen_.prompts ? ". " : "");
      if (line.end == Line::End::kStopped) return print("\n"), read(text);
      if (line.end == Line::End::kEnd) return end();
      text += (text.empty() ? "" : "\n") + line.text;
    }
    text.erase(text.size() - kQuotes.size());
    return true;
  }
  bool end() {
    if (screen_.prompts) print("\n");
    return false;
  }

  // A message that got no answer can be tried again; another one takes its place.
  void say(const std::string& text) {
    auto& messages = conversation_.messages;
    if (!messages.empty() && messages.back()["role"] == "user") messages.erase(messages.size() - 1);
    conversation_.say("user", text);
  }

  void answer() {
    StopKey::take();
    Output output(screen_);
    const AnswerParts parts{[&](const std::string& text) { output.reason(text); },
                            [&](const std::string& text) { output.add(text); },
                            [&] { return screen_.prompts ? StopKey::pressed() : interrupted(); }};
    const Answer answer = [&] {
      try {
        return ask(model_, conversation_.body(model_.name()), parts);
      } catch (...) {
        output.break_off();
        throw;
      }
    }();
    output.finish();
    if (!answer.content.empty()) conversation_.say("assistant", answer.content);
    if (!screen_.prompts) return throw_if_interrupted();
    if (StopKey::take() || answer.stopped) remark("Stopped.");
    if (answer.finish == "length") remark("Cut off: no more tokens were allowed (/set max_tokens).");
    print("\n");
  }

  void remark(const std::string& text) const {
    if (!screen_.prompts) return;
    const std::string safe = without_controls(text);
    print(screen_.markdown ? sequence({.dim = true}) + safe + sequence({}) + "\n" : safe + "\n");
  }

  Model& model_;
  Conversation conversation_;
  LineReader& lines_;
  const Screen screen_;
  bool stopped_once_ = false;
};

}  // namespace

Screen detect_screen() {
  const bool output = isatty(STDOUT_FILENO) != 0;
  const char* plain = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  const bool attributes = !(plain && *plain) && terminal && std::string_view(terminal) != "dumb";
  return {output && isatty(STDIN_FILENO) != 0, output && attributes};
}

void run_chat(Model& model, Conversation conversation, LineReader& lines, const Screen& screen) {
  Chat(model, std::move(conversation), lines, screen).run();
}

}  // namespace flagscale::chat
