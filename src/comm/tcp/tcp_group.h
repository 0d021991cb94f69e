#pragma once
// Ranks as processes, on one host or many: every two have a TCP connection.

#include <chrono>
#include <memory>
#include <string>

#include "comm/process_group.h"

namespace flagscale::comm {

// Where the ranks of a job meet: rank 0 listens there, as torchrun's MASTER_ADDR and MASTER_PORT say.
struct Meeting {
  std::string job;  // of ranks that belong together; a stranger at the port is refused
  std::string address = "localhost";
  int port = 29500;
  int rank = 0, size = 1;
  std::chrono::duration<double> deadline = std::chrono::minutes(10);  // to meet, and of each collective
};

// Throws Error{kResource}: the port is taken, a rank did not come (named), two have one rank, or the ranks do
// not agree on size or job.
std::unique_ptr<ProcessGroup> join(const Meeting& meeting);

}  // namespace flagscale::comm
