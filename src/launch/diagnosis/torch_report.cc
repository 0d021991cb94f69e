#include "launch/diagnosis/torch_report.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "launch/diagnosis/time_stamp.h"

namespace flagscale::launch {

namespace {

// "  rank      : 1 (local_rank: 1)": what stands after the colon of one of the table's keys; empty for other
// lines.
std::string_view value_of(std::string_view line, std::string_view key) {
  const size_t start = line.find_first_not_of(' ');
  if (start == 0 || start == std::string_view::npos || !line.substr(start).starts_with(key)) return {};
  line.remove_prefix(start + key.size());
  const size_t colon = line.find_first_not_of(' ');
  if (colon == std::string_view::npos || line[colon] != ':' || colon + 1 >= line.size() ||
      line[colon + 1] != ' ')
    return {};
  return line.substr(colon + 2);
}

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() ? std::optional(value) : std::nullopt;
}

// "2026-11-26_16:56:11"
std::optional<double> time_of(std::string_view text) {
  std::string stamp(text);
  std::replace(stamp.begin(), stamp.end(), '_', ' ');
  return time_stamp(stamp, 0);
}

}  // namespace

void TorchReport::keep(Ending ending) {
  ending.local_rank = local_rank_;
  const auto same = [&](const Ending& other) { return other.rank == ending.rank; };
  std::erase_if(endings_, same);
  endings_.push_back(ending);
}

bool TorchReport::read(std::string_view line) {
  if (const std::string_view time = value_of(line, "time"); !time.empty()) {
    const auto stamp = time_of(time);
    if (!stamp) return false;
    time_ = stamp;
    rank_ = -1;
    return true;
  }
  constexpr std::string_view kLocal = "(local_rank: ";
  if (const std::string_view rank = value_of(line, "rank"); rank.find(kLocal) != std::string_view::npos) {
    rank_ = number(rank).value_or(-1);
    local_rank_ = number(rank.substr(rank.find(kLocal) + kLocal.size())).value_or(-1);
    return true;
  }
  if (const std::string_view code = value_of(line, "exitcode");
      code.find("(pid:") != std::string_view::npos) {
    const auto value = number(code);
    if (value && rank_ >= 0) keep(exited(rank_, *value, time_));
    return true;
  }
  for (const std::string_view key : {"host", "error_file", "traceback"})
    if (rank_ >= 0 && !value_of(line, key).empty()) return true;
  return false;
}

}  // namespace flagscale::launch
