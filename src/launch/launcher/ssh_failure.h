#pragma once
// What an ssh that did not reach its host, or lost it, means, and what mends it.

#include <string>
#include <vector>

namespace flagscale::launch {

// One line, from what ssh wrote to stderr; "" where nothing is known of that.
std::string explain_ssh_failure(const std::string& host, int port, const std::vector<std::string>& err);

}  // namespace flagscale::launch
