#pragma once
// How the ranks of a job find one another.

#include <string>
#include <vector>

#include "comm/tcp/socket.h"
#include "comm/tcp/tcp_group.h"

namespace flagscale::comm {

struct Neighbour {
  Socket socket;        // none: this rank itself
  std::string address;  // for people
};

// By rank. Everybody tells rank 0 where it listens, rank 0 tells everybody, and the higher of two ranks
// connects to the lower one.
std::vector<Neighbour> connect_all(const Meeting& meeting);

}  // namespace flagscale::comm
