#include "chat/line_reader.h"

#include <dlfcn.h>
#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <cwchar>
#include <iostream>

#include "base/interrupt.h"
#include "base/library_function.h"
#include "chat/stop_key.h"

namespace flagscale::chat {

namespace {

constexpr int kRemembered = 1000;
constexpr int kGlance = 100;  // ms; a signal may go to another thread, so waiting ends now and then

bool readable(int milliseconds) {
  pollfd input{STDIN_FILENO, POLLIN, 0};
  return poll(&input, 1, milliseconds) > 0;
}

// One byte: 1; 0 at the end, or when the user stops.
int read_byte(char& byte, bool& stopped) {
  while (!readable(kGlance)) {
    if (StopKey::take()) return stopped = true, 0;
    if (interrupted()) return 0;
  }
  ssize_t got = 0;
  do got = ::read(STDIN_FILENO, &byte, 1);
  while (got < 0 && errno == EINTR);
  return got == 1 ? 1 : 0;
}

class PlainReader final : public LineReader {
 public:
  Line read(const std::string&) override {
    Line line;
    if (!std::getline(std::cin, line.text)) line.end = Line::End::kEnd;
    if (line.text.ends_with('\r')) line.text.pop_back();
    return line;
  }
  bool waiting() override { return false; }
};

class TerminalReader final : public LineReader {
 public:
  Line read(const std::string& prompt) override {
    std::fputs(prompt.c_str(), stdout);
    std::fflush(stdout);
    Line line;
    bool stopped = false;
    for (char c = 0;;) {
      if (read_byte(c, stopped) == 0) {
        line.end = stopped ? Line::End::kStopped : Line::End::kEnd;
        return line;
      }
      if (c == '\n') return line;
      line.text += c;
    }
  }
  bool waiting() override { return readable(0); }
};

// The functions of libedit that are used.
struct Library {
  EditLine* (*init)(const char*, FILE*, FILE*, FILE*) = nullptr;
  void (*end)(EditLine*) = nullptr;
  const char* (*gets)(EditLine*, int*) = nullptr;
  int (*set)(EditLine*, int, ...) = nullptr;
  int (*get)(EditLine*, int, ...) = nullptr;
  void (*resize)(EditLine*) = nullptr;
  int (*source)(EditLine*, const char*) = nullptr;
  History* (*history_init)() = nullptr;
  void (*history_end)(History*) = nullptr;
  int (*history)(History*, HistEvent*, int, ...) = nullptr;

  bool open() {
    void* library = dlopen("libedit.so.2", RTLD_NOW | RTLD_LOCAL);
    return library && find_function(library, "el_init", init) && find_function(library, "el_end", end) &&
           find_function(library, "el_gets", gets) && find_function(library, "el_set", set) &&
           find_function(library, "el_get", get) && find_function(library, "el_resize", resize) &&
           find_function(library, "el_source", source) &&
           find_function(library, "history_init", history_init) &&
           find_function(library, "history_end", history_end) && find_function(library, "history", history);
  }
};

Library& libedit() {
  static Library library;
  return library;
}

class EditReader final : public LineReader {
 public:
  explicit EditReader(const Library& library) : edit_(library) {
    // Characters are the terminal's; where no locale says so they are UTF-8 all the same.
    if (!std::setlocale(LC_CTYPE, "") || std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
      std::setlocale(LC_CTYPE, "C.UTF-8");
    line_ = edit_.init("flagscale", stdin, stdout, stderr);
    history_ = edit_.history_init();
    HistEvent event;
    edit_.history(history_, &event, H_SETSIZE, kRemembered);
    edit_.history(history_, &event, H_SETUNIQUE, 1);
    edit_.set(line_, EL_CLIENTDATA, this);
    edit_.set(line_, EL_PROMPT, &EditReader::prompt);
    edit_.set(line_, EL_EDITOR, "emacs");
    edit_.set(line_, EL_SIGNAL, 0);
    edit_.set(line_, EL_HIST, edit_.history, history_);
    edit_.set(line_, EL_GETCFN, &EditReader::next);
    edit_.set(line_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    edit_.source(line_, nullptr);  // ~/.editrc
  }
  ~EditReader() override {
    edit_.history_end(history_);
    edit_.end(line_);
  }

  Line read(const std::string& text) override {
    prompt_ = text;
    stopped_ = false;
    edit_.resize(line_);
    // Before the prompt: libedit does it after, and a Ctrl-D in between would be read as nothing.
    edit_.set(line_, EL_PREP_TERM, 1);
    int count = 0;
    const char* got = edit_.gets(line_, &count);
    if (!got || count <= 0 || stopped_) return {stopped_ ? Line::End::kStopped : Line::End::kEnd, {}};
    std::string_view typed(got);
    while (typed.ends_with('\n') || typed.ends_with('\r')) typed.remove_suffix(1);
    return {Line::End::kLine, std::string(typed)};
  }
  bool waiting() override { return readable(0); }
  void remember(const std::string& text) override {
    HistEvent event;
    if (text.find('\n') == std::string::npos) edit_.history(history_, &event, H_ENTER, text.c_str());
  }

 private:
  static EditReader& self(EditLine* line) {
    void* data = nullptr;
    // NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): only an opened library calls back
    libedit().get(line, EL_CLIENTDATA, &data);
    return *static_cast<EditReader*>(data);
  }
  static char* prompt(EditLine* line) { return self(line).prompt_.data(); }
  // EL_GETCFN: the next character; 0 ends the line without one.
  static int next(EditLine* line, wchar_t* character) {
    EditReader& reader = self(line);
    std::mbstate_t state{};
    for (char byte = 0;;) {
      if (read_byte(byte, reader.stopped_) == 0) return 0;
      const size_t size = std::mbrtowc(character, &byte, 1, &state);
      if (size == static_cast<size_t>(-2)) continue;
      if (size == static_cast<size_t>(-1)) *character = L'\xfffd';
      return 1;
    }
  }

  const Library& edit_;
  EditLine* line_ = nullptr;
  History* history_ = nullptr;
  std::string prompt_;
  bool stopped_ = false;
};

}  // namespace

std::unique_ptr<LineReader> plain_reader() { return std::make_unique<PlainReader>(); }

std::unique_ptr<LineReader> terminal_reader() {
  static const bool opened = libedit().open();
  if (!opened) return std::make_unique<TerminalReader>();
  return std::make_unique<EditReader>(libedit());
}

}  // namespace flagscale::chat
