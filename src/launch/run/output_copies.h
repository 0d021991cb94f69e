#pragma once
// What ranks on hosts without a common file system say, kept here too: their own files are out of reach for
// who looks after the job.

#include <fstream>
#include <map>
#include <string_view>

#include "launch/job.h"

namespace flagscale::launch {

class OutputCopies {
 public:
  explicit OutputCopies(const Job& job) : job_(job) {}

  // Appends. What cannot be written is told once, and costs the job nothing.
  void write(const NodeTask& task, std::string_view bytes);
  void forget() { files_.clear(); }  // the ranks are others now

 private:
  const Job& job_;
  std::map<int, std::ofstream> files_;  // by rank
};

}  // namespace flagscale::launch
