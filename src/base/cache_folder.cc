#include "base/cache_folder.h"

#include <cstdlib>

namespace flagscale {

std::filesystem::path cache_folder(const char* name) {
  const char *xdg = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  if (xdg && *xdg == '/') return std::filesystem::path(xdg) / "flagscale" / name;
  if (home && *home == '/') return std::filesystem::path(home) / ".cache" / "flagscale" / name;
  return {};
}

uint64_t cache_limit() {
  const char* text = std::getenv("FLAGSCALE_CACHE_BYTES");
  return text && *text ? std::strtoull(text, nullptr, 10) : uint64_t{16} << 30;
}

}  // namespace flagscale
