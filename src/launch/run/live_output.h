#pragma once
// The ranks' output on this process's own: of one rank as it is, of several by whole lines, each behind the
// number of its rank. Keeps each rank's last lines.

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "launch/agent/frames.h"

namespace flagscale::launch {

class LiveOutput {
 public:
  LiveOutput(size_t ranks, bool shown) : ranks_(ranks), shown_(shown) {}

  void write(size_t rank, FrameKind kind, std::string_view bytes);
  void flush(size_t rank);  // an unfinished last line too
  // What a rank said last, at most kLines lines.
  std::vector<std::string> last_lines(size_t rank) const;
  void forget(size_t rank) { ranks_.at(rank) = {}; }

  // stdout and stderr are two places (a file or a pipe is one of them).
  static bool apart();

  static constexpr size_t kLines = 20, kLongestLine = 2000;

 private:
  struct Rank {
    std::string unfinished[2];  // stdout's, stderr's
    std::deque<std::string> last;
  };
  void line(size_t rank, FrameKind kind, std::string_view text);

  std::vector<Rank> ranks_;
  bool shown_;
};

}  // namespace flagscale::launch
