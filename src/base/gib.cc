#include "base/gib.h"

#include <fmt/core.h>

namespace flagscale {

std::string gib(size_t bytes) {
  const double value = static_cast<double>(bytes) / static_cast<double>(size_t{1} << 30);
  if (value >= 0.1) return fmt::format("{:.1f} GiB", value);
  return value * 1024 >= 0.1 ? fmt::format("{:.1f} MiB", value * 1024)
                             : fmt::format("{:.1f} KiB", static_cast<double>(bytes) / 1024);
}

}  // namespace flagscale
