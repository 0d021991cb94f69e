#pragma once

#include <cstddef>
#include <string>

namespace flagscale {

// "139.3 GiB", "12.0 MiB", "1.5 KiB"
std::string gib(size_t bytes);

}  // namespace flagscale
