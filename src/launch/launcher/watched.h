#pragma once
// A child whose lines are read as they come; what it says beside them is kept for when it fails.

#include <chrono>
#include <string>

#include "launch/job.h"

namespace flagscale::launch {

class Watched {
 public:
  explicit Watched(const Command& command);
  ~Watched();  // ends what still runs
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;

  // The next line of its stdout, false at its end. Throws Error{kInterrupted}.
  bool next(std::string& line);
  // Asks it to end (SIGTERM) and waits. Its exit code, 128 + signal where one ended it.
  int stop();
  // Throws Error{kResource} with the last that it said where it does not end within this time, and
  // Error{kInterrupted}; then it is killed with this.
  int wait(std::chrono::duration<double> limit = kToEnd);
  std::string said() const;       // on stderr
  std::string last_said() const;  // the last line on either, of stderr where there is one

  // For what a process has left to do behind its last line: a GPU's memory is given back, files are written.
  static constexpr std::chrono::seconds kToEnd{120};

 private:
  int pid_ = -1, out_ = -1, err_ = -1;
  std::string pending_, last_;
};

}  // namespace flagscale::launch
