#pragma once
// What an ssh that did not reach its host, or lost it, means, and what mends it.

#include <string>
#include <vector>

namespace flagscale::launch {

// One line. `err`: what ssh wrote to stderr; its last line is quoted where nothing is known of it.
std::string explain_ssh_failure(const std::string& host, int port, const std::vector<std::string>& err);

}  // namespace flagscale::launch
