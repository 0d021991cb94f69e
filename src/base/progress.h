#pragma once
// A progress bar on stderr. On a terminal one line redraws itself ten times a second; elsewhere (a log file,
// CI) a plain line comes every few seconds. Nothing is printed for work that ends within half a second.
//
//   Progress progress("preprocess", file_bytes, "B");
//   progress.advance(line.size());
//
//   preprocess  [=========>          ]  45%  12.3 MB/27.4 MB  31.2 MB/s  ETA 0:04

#include <chrono>
#include <cstdint>
#include <string>

namespace flagscale {

class Progress {
 public:
  // total = 0: unknown, shown as a count. unit "B" prints kB, MB, GB; any other is a plain count of that
  // unit.
  Progress(std::string what, int64_t total, std::string unit);
  ~Progress();  // finish()
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(int64_t amount) { set(done_ + amount); }
  void set(int64_t done);
  // A short text after the figures, "loss 3.21"; redrawn with the next set().
  void note(std::string text) { note_ = std::move(text); }
  void resume_at(int64_t done);  // work found done at the start: not counted in the rate
  void finish();                 // the last line, with the elapsed time; further calls do nothing

  // Erases the bar that stands on the terminal's line, if one does, before another message is printed there.
  static void clear_line();

 private:
  using Clock = std::chrono::steady_clock;
  void draw(Clock::time_point now, bool last);

  std::string what_, unit_, note_;
  int64_t total_, done_ = 0, first_ = 0;
  Clock::time_point start_, drawn_;
  bool terminal_, shown_ = false, finished_ = false;
};

// The figures of a progress line, apart from the clock and the terminal: what is tested.
std::string progress_line(const std::string& what, int64_t done, int64_t total, const std::string& unit,
                          double rate, const std::string& note);
// "0:07", "12:31", "3:05:00"
std::string format_duration(double seconds);
// "12.3 MB" for unit "B", "1234 steps" else
std::string format_amount(double amount, const std::string& unit);

}  // namespace flagscale
