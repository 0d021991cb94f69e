#pragma once
// One run of an experiment at a time: a lock that its launcher and, through it, its agents hold as long as
// anything of the run is there. It goes with the processes, however they end.

#include <chrono>
#include <filesystem>

namespace flagscale::launch {

class ExperimentLock {
 public:
  // Waits while the last run's processes end, if its launcher is gone. Throws Error{kBusy} where it runs on,
  // or has not ended after `patience`; Error{kResource} where the folder cannot be written.
  ExperimentLock(const std::filesystem::path& experiment, std::chrono::duration<double> patience);
  ~ExperimentLock();
  ExperimentLock(const ExperimentLock&) = delete;
  ExperimentLock& operator=(const ExperimentLock&) = delete;

  int file() const { return file_; }  // to keep open in agents

 private:
  int file_ = -1;
};

// Throws Error{kBusy} where its last run is not over.
void complain_if_it_runs(const std::filesystem::path& experiment);

// What a run left that nobody owns any more, as its launcher and agents were killed together: by control
// groups and by processes that are still those of the record. Ends it by SIGKILL, and removes the groups that
// are empty then; returns how many.
int end_leftovers(const std::filesystem::path& experiment);

}  // namespace flagscale::launch
