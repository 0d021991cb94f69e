#pragma once
// The broken documents that a run passed over, a line of JSON each: {"file", "line", "error"}. Where there
// are none there is no file.

#include <cstdint>
#include <memory>
#include <string>

#include "data/part_file.h"

namespace flagscale::data {

class SkippedFile {
 public:
  // Goes on after `keep` bytes that sync() counted; with 0 an earlier run's file is removed. Throws Error as
  // PartFile does.
  SkippedFile(std::string path, uint64_t keep);
  // line: of Parquet the row.
  void add(const std::string& file, int64_t line, const std::string& error);
  uint64_t sync();  // to the disk; its size
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::unique_ptr<PartFile> file_;  // once there is something to write
};

}  // namespace flagscale::data
