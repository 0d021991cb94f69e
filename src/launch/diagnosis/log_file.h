#pragma once
// A log file that is still written: each look reads what is new.

#include <filesystem>

#include "launch/diagnosis/log_scan.h"

namespace flagscale::launch {

class LogFile {
 public:
  // Reads nothing yet. from: bytes of earlier runs, which append to the same file, to leave out; line numbers
  // then count from there.
  explicit LogFile(std::filesystem::path path, uint64_t from = 0);

  // Reads to the end of what is there. A file that is not there yet has nothing new; one that became shorter
  // or was replaced is read from its start, beside what the old one said. Error{kResource} when it cannot be
  // read. True if there was anything new.
  bool read();
  void end() { scan_.flush(); }  // the writer has ended: the last line counts without a line feed

  const std::filesystem::path& path() const { return path_; }
  const LogScan& scan() const { return scan_; }
  uint64_t offset() const { return offset_; }

 private:
  std::filesystem::path path_;
  uint64_t offset_;
  uint64_t inode_ = 0;
  LogScan scan_;
};

// The year that a file was last written in; this one's, where it is not there.
int year_of(const std::filesystem::path& path);

}  // namespace flagscale::launch
