#pragma once
// A child whose lines are read as they come; what it says beside them is kept for when it fails.

#include <string>
#include <vector>

#include "launch/job.h"

namespace flagscale {

class Watched {
 public:
  explicit Watched(const launch::Command& command);
  ~Watched();  // ends what still runs
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;

  // The next line of its stdout, false at its end. Throws Error{kInterrupted}.
  bool next(std::string& line);
  // Asks it to end (SIGTERM) and waits. Its exit code, 128 + signal where one ended it.
  int stop();
  int wait();
  std::string said() const;  // on stderr

 private:
  int pid_ = -1, out_ = -1, err_ = -1;
  std::string pending_;
};

}  // namespace flagscale
