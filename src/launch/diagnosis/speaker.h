#pragma once
// Who wrote a line of a log that several ranks share.

#include <compare>
#include <string>
#include <string_view>

namespace flagscale::launch {

struct Speaker {
  int rank = -1;        // among all, "[rank3]:"; -1: not said
  int local_rank = -1;  // on its host, "[default3]:" as torchrun marks what it tees; -1: not said
  auto operator<=>(const Speaker&) const = default;
};

struct Spoken {
  Speaker speaker;
  std::string_view text;  // the line without its marks
};

// Takes marks at the start of a line off: "[rank3]:", "[default3]:", "(Worker rank=3 pid=71)".
Spoken take_speaker(std::string_view line);

// The rank named within a line, "[Rank 3] Watchdog caught …"; -1 if none is.
int named_rank(std::string_view line);

// "rank 3", "local rank 3", or "" where nothing is known.
std::string describe(const Speaker& speaker);

}  // namespace flagscale::launch
