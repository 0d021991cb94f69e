#pragma once
// Depth and sizes of JSON from elsewhere, looked at before anything is built of it: writing it again goes
// down by recursion, and looking up a key of an ordered object is linear.

#include <cstddef>
#include <optional>
#include <string_view>

namespace flagscale::text {

struct JsonBounds {
  int depth = 128;
  size_t keys = 1024;  // of one object
};

struct JsonExcess {
  bool depth;  // else keys
  size_t byte;
};

// The first place past the bounds. Text that is not JSON has some answer too.
std::optional<JsonExcess> find_excess(std::string_view json, const JsonBounds& bounds);

}  // namespace flagscale::text
