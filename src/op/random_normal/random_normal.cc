#include "op/random_normal/random_normal.h"

namespace flagscale::op {

uint64_t random_stream(std::string_view purpose, std::string_view name) {
  uint64_t hash = 14695981039346656037ull;
  const auto mix = [&](unsigned char c) { hash = (hash ^ c) * 1099511628211ull; };
  for (const char c : purpose) mix(static_cast<unsigned char>(c));
  mix(':');
  for (const char c : name) mix(static_cast<unsigned char>(c));
  return hash;
}

}  // namespace flagscale::op
