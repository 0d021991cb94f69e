#pragma once

#include <algorithm>
#include <vector>

namespace flagscale {

// The upper one of two. values: not empty.
inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace flagscale
