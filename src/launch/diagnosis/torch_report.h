#pragma once
// The table in which torchrun says how its ranks ended, "rank : 1 (local_rank: 1)", "exitcode : -9 (pid:
// 71)".

#include <string_view>
#include <vector>

#include "launch/diagnosis/ending.h"

namespace flagscale::launch {

class TorchReport {
 public:
  // True if the line belongs to a table.
  bool read(std::string_view line);
  // Ranks' ends in the tables so far, each rank's last one.
  const std::vector<Ending>& endings() const { return endings_; }

 private:
  void keep(Ending ending);

  std::optional<double> time_;
  int rank_ = -1, local_rank_ = -1;
  std::vector<Ending> endings_;
};

}  // namespace flagscale::launch
