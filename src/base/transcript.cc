#include "base/transcript.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace flagscale {

namespace {

struct Copy {
  std::mutex mutex;
  bool wanted = false, warned = false;
  int file = -1;
  std::string name, waiting;
};

Copy& copy() {
  static Copy instance;
  return instance;
}

// Why not all of it could be written; 0 where it was.
int write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(file, text.data(), text.size());
    if (written < 0 && errno != EINTR) return errno;
    if (written > 0) text.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

}  // namespace

Transcript::Transcript() { copy().wanted = true; }

Transcript::~Transcript() {
  const std::lock_guard lock(copy().mutex);
  if (copy().file >= 0) close(copy().file);
  copy().file = -1;
  copy().wanted = copy().warned = false;
  copy().waiting.clear();
}

void Transcript::open(const std::filesystem::path& file) {
  const int opened = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (opened < 0) fail(ErrorKind::kResource, "cannot write {}: {}", file.string(), std::strerror(errno));
  std::string before;
  {
    const std::lock_guard lock(copy().mutex);
    copy().file = opened, copy().name = file.string();
    before = std::exchange(copy().waiting, {});
  }
  transcribe(before);
}

void transcribe(std::string_view lines) {
  int lost = 0;
  {
    const std::lock_guard lock(copy().mutex);
    if (!copy().wanted || lines.empty()) return;
    if (copy().file < 0) return void(copy().waiting.append(lines));
    lost = write_all(copy().file, lines);
    if (lost == 0 || std::exchange(copy().warned, true)) return;
  }
  warn("{} is no longer complete: {}", copy().name, std::strerror(lost));
}

}  // namespace flagscale
