#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>

#include "base/transcript.h"

namespace flagscale {

namespace {
constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kPlainLine = std::chrono::seconds(5);
constexpr auto kPatience = std::chrono::milliseconds(500);
std::atomic<bool> bar_on_terminal{false};
}  // namespace

std::string format_duration(double seconds) {
  const auto total = static_cast<int64_t>(std::ceil(std::clamp(seconds, 0.0, 1e9)));
  const int64_t hours = total / 3600, minutes = total / 60 % 60;
  return hours ? fmt::format("{}:{:02}:{:02}", hours, minutes, total % 60)
               : fmt::format("{}:{:02}", minutes, total % 60);
}

std::string format_amount(double amount, const std::string& unit) {
  if (unit != "B") {
    const int digits = amount == std::floor(amount) || amount >= 100 ? 0 : amount < 1 ? 2 : 1;
    return fmt::format("{:.{}f} {}", amount, digits, unit);
  }
  static constexpr std::array<const char*, 5> kNames{"B", "kB", "MB", "GB", "TB"};
  size_t name = 0;
  while (amount >= 1000 && name + 1 < kNames.size()) amount /= 1000, ++name;
  return name ? fmt::format("{:.1f} {}", amount, kNames[name]) : fmt::format("{:.0f} B", amount);
}

std::string progress_line(const std::string& what, int64_t done, int64_t total, const std::string& unit,
                          double rate, const std::string& note) {
  std::string line = what;
  if (total > 0) {
    constexpr int64_t kWidth = 24;
    const int64_t shown = std::clamp<int64_t>(done, 0, total);
    const auto filled = static_cast<size_t>(static_cast<double>(kWidth) * static_cast<double>(shown) /
                                            static_cast<double>(total));
    const std::string bar = std::string(filled, '=') + (filled < kWidth ? ">" : "");
    line += fmt::format("  [{:<24}] {:3.0f}%  {}/{}", bar,
                        100.0 * static_cast<double>(shown) / static_cast<double>(total),
                        unit == "B" ? format_amount(static_cast<double>(done), unit) : std::to_string(done),
                        format_amount(static_cast<double>(total), unit));
  } else {
    line += "  " + format_amount(static_cast<double>(done), unit);
  }
  if (rate > 0) line += fmt::format("  {}/s", format_amount(rate, unit));
  if (rate > 0 && total > done) line += "  ETA " + format_duration(static_cast<double>(total - done) / rate);
  if (!note.empty()) line += "  " + note;
  return line;
}

Progress::Progress(std::string what, int64_t total, std::string unit)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      start_(Clock::now()),
      drawn_(start_),
      terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() { finish(); }

void Progress::resume_at(int64_t done) { done_ = first_ = done; }

void Progress::set(int64_t done) {
  done_ = done;
  const auto now = Clock::now();
  if (now - start_ < kPatience ||
      now - drawn_ < (terminal_ ? Clock::duration(kRedraw) : Clock::duration(kPlainLine)))
    return;
  draw(now, false);
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  const auto now = Clock::now();
  if (shown_ || now - start_ >= kPatience) draw(now, true);
}

void Progress::draw(Clock::time_point now, bool last) {
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done_ - first_) / seconds : 0;
  std::string line = progress_line(what_, done_, total_, unit_, rate, note_);
  if (last) line += "  in " + format_duration(seconds);
  if (!terminal_ || last) transcribe(line + "\n");
  line = terminal_ ? "\r" + line + "\x1b[K" + (last ? "\n" : "") : line + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
  shown_ = true;
  drawn_ = now;
  bar_on_terminal = terminal_ && !last;
}

void Progress::clear_line() {
  if (bar_on_terminal.exchange(false)) std::fputs("\r\x1b[K", stderr);
}

}  // namespace flagscale
