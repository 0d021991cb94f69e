#pragma once
// `flagscale serve` as a process of its own.

#include <sys/types.h>

#include <string>
#include <vector>

namespace flagscale::e2e {

class ServerProcess {
 public:
  // The words after `flagscale serve`; --port 0 is added. whole: the words after `flagscale`, and nothing is
  // added. Returns when the ready line has come, or the process has ended.
  ServerProcess(const std::vector<std::string>& words, const std::string& folder, bool whole = false);
  ~ServerProcess();  // killed if it still runs

  const std::string& ready_line() const { return ready_; }  // "": it ended before
  int port() const;
  void signal(int number) const;
  int wait();  // exit status; 128 + signal when killed

 private:
  pid_t child_ = -1;
  int out_ = -1;
  std::string ready_;
};

}  // namespace flagscale::e2e
