#pragma once
// What a log says, read as it grows.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "launch/diagnosis/line_reader.h"
#include "launch/diagnosis/pattern.h"
#include "launch/diagnosis/speaker.h"
#include "launch/diagnosis/torch_report.h"
#include "launch/diagnosis/traceback.h"

namespace flagscale::launch {

// One thing that one speaker's lines said, however often.
struct Finding {
  const Pattern* pattern = nullptr;
  Role role = Role::kCause;  // the pattern's; a traceback has that of the exception it ends in
  Speaker speaker;
  int64_t line = 0;             // the first since the job last got on, from 1
  std::string text;             // that line, at most 500 bytes
  std::optional<double> time;   // its time, or that of the last line before it that has one (time_stamp.h)
  bool raised = false;          // an exception that nobody caught
  bool survived = false;        // the job got on after it, or began anew
  int64_t first = 0, last = 0;  // lines, of all
  int64_t count = 0;
};

class LogScan {
 public:
  // year: for times that name none.
  explicit LogScan(int year);
  LogScan(const LogScan&) = delete;
  LogScan& operator=(const LogScan&) = delete;

  // The next bytes, cut anywhere.
  void feed(std::string_view bytes) { reader_.feed(bytes); }
  // The log ends here, or may: its last line counts though no line feed ends it. More may be fed.
  void flush();

  // In the order of their first lines; FlagScale's "completed" too, which hides none.
  std::vector<Finding> findings() const;
  // A speaker's last 20 lines; of the whole log for Speaker{}.
  std::vector<std::string> last_lines(const Speaker& speaker) const;
  // Those who wrote lines; Speaker{} too, for lines without a mark.
  std::vector<Speaker> speakers() const;
  bool has_marks() const;  // some line says which rank wrote it
  // How ranks ended, by a report of torchrun in this log.
  const std::vector<Ending>& endings() const { return torch_report_.endings(); }
  int64_t lines() const { return lines_; }

 private:
  class Tail {
   public:
    void add(std::string_view line);
    std::vector<std::string> lines() const;

   private:
    std::vector<std::string> ring_;
    size_t next_ = 0;
  };
  // One local rank, or one rank where lines do not name the local one.
  struct Voice {
    int rank = -1;  // as soon as a line, or torchrun's report, says it
    Tail tail;
    Traceback traceback;
    int64_t traceback_line = 0;
  };
  struct Entry {
    Finding finding;
    int64_t progress = 0, start = 0;  // counts when it came last
  };
  struct Place {
    Speaker speaker;
    int64_t line;
    std::string_view text;
  };

  void read_line(int64_t number, std::string_view line);
  void read_text(const Place& place);
  void end_traceback(Voice& voice, const Place& place, std::string_view exception);
  void note(const Pattern& pattern, Role role, const Place& place, bool raised);
  bool survived(const Entry& entry) const;
  void learn_ranks();
  Speaker whole(const Speaker& key) const;

  int year_;
  LineReader reader_;
  int64_t lines_ = 0, progress_ = 0, starts_ = 0;
  std::optional<double> time_;
  Tail tail_;
  TorchReport torch_report_;
  std::map<Speaker, Voice> voices_;  // by key_of() in the source
  std::vector<Entry> entries_;
  std::map<std::tuple<std::string_view, Role, Speaker>, size_t> index_;
};

}  // namespace flagscale::launch
