#pragma once
// Slurm's short form of host lists: "gpu[01-03,7],login" is gpu01, gpu02, gpu03, gpu7, login.

#include <string>
#include <vector>

namespace flagscale::launch {

// Every host, in order; several brackets in a name multiply, as in "r[1-2]n[1-4]". Throws Error{kConfig} for
// a list that does not parse or has more than 65,536 hosts.
std::vector<std::string> expand_node_list(const std::string& list);

// Slurm's short form of counts, one a host: "2(x3),1" is 2, 2, 2, 1. Throws as above.
std::vector<int> expand_counts(const std::string& list);

}  // namespace flagscale::launch
