#include "launch/diagnosis/speaker.h"

#include <fmt/format.h>

#include <charconv>

namespace flagscale::launch {

namespace {

constexpr size_t kLongestMark = 64;
constexpr int kMostRanks = 1'000'000, kMostLocalRanks = 1024;  // more: a counter, not a rank

// The number that a text starts with; -1 without one.
int leading_number(std::string_view text) {
  int number = -1;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

bool is_name(std::string_view text) {
  return !text.empty() && text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string_view::npos;
}

// "rank3" or "default3", "]:" after it.
bool read_bracket(std::string_view inside, Speaker& speaker) {
  const size_t digits = inside.find_first_of("0123456789");
  if (digits == std::string_view::npos || !is_name(inside.substr(0, digits)) ||
      inside.find_first_not_of("0123456789", digits) != std::string_view::npos)
    return false;
  const int number = leading_number(inside.substr(digits));
  const bool rank = inside.starts_with("rank");
  if (number < 0 || number > (rank ? kMostRanks : kMostLocalRanks)) return false;
  (rank ? speaker.rank : speaker.local_rank) = number;
  return true;
}

bool take_mark(Spoken& spoken) {
  std::string_view& text = spoken.text;
  if (text.starts_with('[')) {
    const size_t close = text.substr(0, kLongestMark).find("]:");
    if (close == std::string_view::npos || !read_bracket(text.substr(1, close - 1), spoken.speaker))
      return false;
    text.remove_prefix(close + 2);
    if (text.starts_with(' ')) text.remove_prefix(1);
    return true;
  }
  if (!text.starts_with('(')) return false;
  const size_t close = text.substr(0, kLongestMark).find(") ");
  const size_t rank = text.substr(0, close).find("rank=");
  if (close == std::string_view::npos || rank == std::string_view::npos) return false;
  spoken.speaker.rank = leading_number(text.substr(rank + 5));
  text.remove_prefix(close + 2);
  return true;
}

}  // namespace

Spoken take_speaker(std::string_view line) {
  Spoken spoken{{}, line};
  for (int marks = 0; marks < 3 && take_mark(spoken); ++marks) {
  }
  return spoken;
}

int named_rank(std::string_view line) {
  for (const std::string_view mark : {"[Rank ", "[rank ", "[rank"}) {
    const size_t at = line.find(mark);
    if (at == std::string_view::npos) continue;
    const int rank = leading_number(line.substr(at + mark.size()));
    if (rank >= 0) return rank;
  }
  return -1;
}

std::string describe(const Speaker& speaker) {
  if (speaker.rank >= 0) return fmt::format("rank {}", speaker.rank);
  return speaker.local_rank >= 0 ? fmt::format("local rank {}", speaker.local_rank) : "";
}

}  // namespace flagscale::launch
