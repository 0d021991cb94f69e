#include "launch/run/live_output.h"

#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

namespace flagscale::launch {

namespace {

std::FILE* stream_of(FrameKind kind) { return kind == FrameKind::kErr ? stderr : stdout; }

void put_bytes(FrameKind kind, std::string_view bytes) {
  std::FILE* stream = stream_of(kind);
  std::fwrite(bytes.data(), 1, bytes.size(), stream);
  std::fflush(stream);
}

}  // namespace

bool LiveOutput::apart() {
  struct stat out{}, err{};
  if (fstat(STDOUT_FILENO, &out) != 0 || fstat(STDERR_FILENO, &err) != 0) return false;
  return out.st_dev != err.st_dev || out.st_ino != err.st_ino;
}

void LiveOutput::write(size_t rank, FrameKind kind, std::string_view bytes) {
  if (shown_ && ranks_.size() == 1) put_bytes(kind, bytes);
  std::string& unfinished = ranks_.at(rank).unfinished[kind == FrameKind::kErr];
  unfinished += bytes;
  size_t begin = 0;
  for (size_t end; (end = unfinished.find('\n', begin)) != std::string::npos; begin = end + 1)
    line(rank, kind, std::string_view(unfinished).substr(begin, end - begin));
  unfinished.erase(0, begin);
  if (unfinished.size() > kLongestLine) {
    line(rank, kind, unfinished);
    unfinished.clear();
  }
}

void LiveOutput::line(size_t rank, FrameKind kind, std::string_view text) {
  if (shown_ && ranks_.size() > 1) put_bytes(kind, fmt::format("[{}] {}\n", rank, text));
  std::deque<std::string>& last = ranks_[rank].last;
  last.emplace_back(text.substr(0, kLongestLine));
  if (last.size() > kLines) last.pop_front();
}

void LiveOutput::flush(size_t rank) {
  for (const FrameKind kind : {FrameKind::kOut, FrameKind::kErr}) {
    std::string& unfinished = ranks_.at(rank).unfinished[kind == FrameKind::kErr];
    if (!unfinished.empty()) line(rank, kind, unfinished);
    unfinished.clear();
  }
}

std::vector<std::string> LiveOutput::last_lines(size_t rank) const {
  const auto& last = ranks_.at(rank).last;
  return {last.begin(), last.end()};
}

}  // namespace flagscale::launch
