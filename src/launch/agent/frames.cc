#include "launch/agent/frames.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

#include "base/error.h"

namespace flagscale::launch {

namespace {

// Before each frame: a mark that no text has, the kind, the length in 8 hexadecimal digits.
constexpr std::string_view kFrameMark =
    "\x01"
    "fs:";
constexpr size_t kFrameHead = kFrameMark.size() + 1 + 8;
constexpr size_t kLongestFrame = size_t{64} << 20;
constexpr size_t kLongestGreeting = size_t{64} << 10;

bool is_kind(char c) { return c == 'o' || c == 'e' || c == 'm'; }

}  // namespace

bool FrameReader::next(Frame& frame) {
  if (!begun_) {
    const size_t at = waiting_.find(kFrameMark);
    const size_t text =
        at == std::string::npos ? waiting_.size() - std::min(waiting_.size(), kFrameMark.size()) : at;
    greeting_.append(waiting_, 0, text);
    waiting_.erase(0, text);
    if (greeting_.size() > kLongestGreeting) fail(ErrorKind::kCorrupt, "this is no agent's answer");
    if (at == std::string::npos) return false;
    begun_ = true;
  }
  if (waiting_.size() < kFrameHead) return false;
  const std::string_view head(waiting_.data(), kFrameHead);
  size_t length = 0;
  const char* digits = head.data() + kFrameMark.size() + 1;
  const auto read = std::from_chars(digits, digits + 8, length, 16);
  if (!head.starts_with(kFrameMark) || !is_kind(head[kFrameMark.size()]) || read.ptr != digits + 8 ||
      length > kLongestFrame)
    fail(ErrorKind::kCorrupt, "the connection between a launcher and an agent carries something else");
  if (waiting_.size() < kFrameHead + length) return false;
  frame.kind = static_cast<FrameKind>(head[kFrameMark.size()]);
  frame.bytes = waiting_.substr(kFrameHead, length);
  waiting_.erase(0, kFrameHead + length);
  return true;
}

FrameWriter::FrameWriter(int fd) : fd_(fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

void FrameWriter::put(FrameKind kind, std::string_view bytes) {
  waiting_ += fmt::format("{}{}{:08x}", kFrameMark, static_cast<char>(kind), bytes.size());
  waiting_ += bytes;
}

void FrameWriter::output(FrameKind kind, std::string_view bytes) {
  if (waiting_.size() > kMostWaiting) {
    dropped_ += bytes.size();
    return;
  }
  if (const size_t dropped = std::exchange(dropped_, 0))
    put(kind, fmt::format("\n[{} bytes of output are in its file alone: nobody read them here]\n", dropped));
  put(kind, bytes);
}

bool FrameWriter::flush() {
  size_t done = 0;
  bool read = true;
  while (done < waiting_.size()) {
    const ssize_t written = write(fd_, waiting_.data() + done, waiting_.size() - done);
    if (written > 0) {
      done += static_cast<size_t>(written);
    } else if (errno != EINTR) {
      read = errno == EAGAIN;
      break;
    }
  }
  waiting_.erase(0, done);
  return read;
}

}  // namespace flagscale::launch
