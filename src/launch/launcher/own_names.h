#pragma once

#include <set>
#include <string>

namespace flagscale::launch {

// This machine's names: its host name, that without its domain, and the addresses of its interfaces.
std::set<std::string> own_names();

}  // namespace flagscale::launch
