#pragma once
// What a launcher and an agent say to each other over a pair of pipes or an ssh connection: output as it is,
// and messages, each in a frame of its own. A slow reader never stops the writer.

#include <cstddef>
#include <string>
#include <string_view>

namespace flagscale::launch {

enum class FrameKind : char { kOut = 'o', kErr = 'e', kMessage = 'm' };

struct Frame {
  FrameKind kind = FrameKind::kMessage;
  std::string bytes;
};

class FrameReader {
 public:
  void feed(std::string_view bytes) { waiting_.append(bytes); }
  // The next whole frame. Throws Error{kCorrupt} for what is none.
  bool next(Frame& frame);
  // What came before the first frame: a login's greeting, or why a remote shell did not start the agent.
  const std::string& greeting() const { return greeting_; }

 private:
  std::string waiting_, greeting_;
  bool begun_ = false;
};

class FrameWriter {
 public:
  explicit FrameWriter(int fd);  // set to not block; closed by whoever opened it
  void message(std::string_view json) { put(FrameKind::kMessage, json); }
  // Output is dropped, and counted, while the reader is kMostWaiting bytes behind: it is whole in its file.
  void output(FrameKind kind, std::string_view bytes);
  // Writes what can be written at once. False when nobody reads any more.
  bool flush();
  bool waits() const { return !waiting_.empty(); }

  static constexpr size_t kMostWaiting = size_t{8} << 20;

 private:
  void put(FrameKind kind, std::string_view bytes);
  int fd_;
  std::string waiting_;
  size_t dropped_ = 0;
};

}  // namespace flagscale::launch
